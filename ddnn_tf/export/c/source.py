"""An integer network written as C99: one header and one source, which need nothing else.

The plain build is small and runs on any target. Compiled with `-DDDNN_FAST` the same source works with
many neighbours at once: a convolution of pixels becomes additions of precomputed planes (each sum and
difference of up to three channels), on vectors where the compiler has them, else on two 16-bit sums in
one 32-bit word; the units of a dense layer on codes share the sums of four codes. Pooling joins bits, never
sums (see `integers`).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

import ddnn_tf
from ddnn_tf.frames import CLASS_VECTOR, FEATURES, FIXED_POINT, OVERHEAD, pack_words
from ddnn_tf.integers import ImageShape, IntegerLayer, IntegerNetwork, Pool, SlidingWindow
from ddnn_tf.specs import HIGHEST_CODE, Coding, Shape

__all__ = ["Footprint", "Member", "Source", "footprint", "is_identifier", "write"]

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_KEYWORDS = frozenset((
    "alignas", "alignof", "and", "and_eq", "asm", "auto", "bitand", "bitor", "bool", "break", "case",
    "catch", "char", "class", "compl", "const", "const_cast", "constexpr", "continue", "decltype",
    "default", "delete", "do", "double", "dynamic_cast", "else", "enum", "explicit", "export", "extern",
    "false", "float", "for", "friend", "goto", "if", "inline", "int", "long", "mutable", "namespace", "new",
    "noexcept", "not", "not_eq", "nullptr", "operator", "or", "or_eq", "private", "protected", "public",
    "register", "reinterpret_cast", "restrict", "return", "short", "signed", "sizeof", "static",
    "static_assert", "static_cast", "struct", "switch", "template", "this", "thread_local", "throw", "true",
    "try", "typedef", "typeid", "typename", "union", "unsigned", "using", "virtual", "void", "volatile",
    "wchar_t", "while", "xor", "xor_eq",
))  # fmt: skip
_LIMIT = 0xFFFF
_LANES = 32
_GROUP = 16
_FAST_FILTERS = 256
_PER_LINE = 8
_FIXED_BITS = 31
_CHANNELS_OF_A_PLANE = 3
# Code of the small build (-Os), rounded up from what three Cortex-M took: at most 1,046 bytes where only
# codes are convolved; where bits are too, 1,742 for three layers and 1,980 for five (`benchmarks/boards.py`).
_CODE_BYTES = 1152
_CODE_BYTES_WITH_BITS = 1664
_CODE_BYTES_OF_A_LAYER = 128
# The deepest stack of these, rounded up from 248 bytes.
_STACK_BYTES = 320
_BYTES = {"uint16_t": 2, "int16_t": 2, "uint32_t": 4, "int32_t": 4}
# A dense layer of fewer units than these sums each alone: what they would share costs more than it saves.
_SHARED_SUMS = 8


@dataclass(frozen=True)
class Member:
    """One output in the output structure.

    Attributes:
        name: Its name.
        kind: `bits`, `float32` or `int32`.
        shape: Its shape without the samples.
    """

    name: str
    kind: str
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bits or numbers."""
        return int(np.prod(self.shape))

    @property
    def words(self) -> int:
        """4-byte words in the structure."""
        return -(-self.size // 32) if self.kind == "bits" else self.size


@dataclass(frozen=True)
class Source:
    """A network in C.

    Attributes:
        name: Prefix of everything public, and name of the files.
        header: Content of `<name>.h`.
        source: Content of `<name>.c`.
        input_shape: `(height, width, channels)`, `(steps, channels)` or `(features,)`.
        is_binary: The input is bits.
        outputs: What it gives.
        coding: How the C makes codes of physical readings; None: it does not.
        fraction_bits: Numbers are integers, of which these many bits stand behind the point; None: they
            are float32 or plain int32.
    """

    name: str
    header: str
    source: str
    input_shape: Shape
    is_binary: bool
    outputs: tuple[Member, ...]
    fraction_bits: int | None = None
    coding: Coding | None = None


def write(
    network: IntegerNetwork,
    name: str,
    *,
    title: str = "",
    fixed_point: bool = False,
    coding: Coding | None = None,
) -> Source:
    """Writes a network as C.

    Args:
        network: The network. For outputs named `features`, of bits, and `class_vector`, of numbers, it gets
            functions that frame a device's messages.
        name: Prefix of everything public: a C identifier in lower case.
        title: What it is, for a comment.
        fixed_point: Numbers as int32 with a power of two as the unit, for processors without floats. The unit
            is the smallest that lets no number overflow; the error of a number is at most half of it for
            each input of its sum, and half of it for the offset.
        coding: By which scale and offset the device's readings become codes: adds a function that does it.

    Raises:
        ValueError: A name that is no identifier, a layer that is too large for the C, or a coding of
            another number of channels than the input has.
    """
    if not is_identifier(name):
        raise ValueError(f"Expected `name` to be a C identifier in lower case, but got {name!r}.")
    writer = _Writer(network, name, fixed_point)
    context = writer.context() | {
        "name": name,
        "upper": name.upper(),
        # Whoever names a model must not write C.
        "title": re.sub(r"[^A-Za-z0-9_ .'-]", "_", title) or "a binary network",
        "version": ddnn_tf.__version__,
        "network": network,
        "coding": None if coding is None else _coding(network, coding),
    }
    environment = _environment()
    return Source(
        name=name,
        header=environment.get_template("model.h.j2").render(context),
        source=environment.get_template("model.c.j2").render(context),
        input_shape=network.input_shape,
        is_binary=network.is_binary,
        outputs=tuple(writer.members),
        fraction_bits=writer.fraction_bits,
        coding=coding,
    )


@dataclass(frozen=True)
class Footprint:
    """What a network takes on a microcontroller in the small build, without compiling it.

    Attributes:
        flash_bytes: Its constants, exactly, and an upper bound of its code on Cortex-M, without the
            compiler's library and a function that codes readings.
        ram_bytes: Scratch and output structure, exactly, and an upper bound of its stack. The input itself
            is not among them.
    """

    flash_bytes: int
    ram_bytes: int


def footprint(network: IntegerNetwork) -> Footprint:
    """What a network takes, which depends on its shape and not on its weights: it need not be trained.

    Args:
        network: The network, as `folding.fold` gives it.

    Raises:
        ValueError: A layer that is too large for the C.
    """
    writer = _Writer(network, "network", fixed_point=False)
    scratch = writer.context()["plain_scratch"]
    # Training moves thresholds anywhere within reach of the sums.
    reach = max(
        layer.reach(HIGHEST_CODE if number == 0 else 1) for number, layer in enumerate(network.layers)
    )
    threshold = 2 if reach < np.iinfo(np.int16).max else 4
    constants = 0
    for function in writer.functions:
        constants += 4 * _items(function.weights) + threshold * _items(function.thresholds)
        constants += 2 * (_items(function.turned) + _items(function.places))
        constants += 4 * sum(_items(values) for step in function.steps for values in step.values())
    code = _CODE_BYTES
    if writer.kinds & {"gather bits", "codes"}:
        code = _CODE_BYTES_WITH_BITS + _CODE_BYTES_OF_A_LAYER * len(network.layers)
    declared = sum(_BYTES[kind] * int(length) for kind, length in map(_declared, scratch))
    output = 4 * sum(member.words for member in writer.members)
    # Structures end at a multiple of 4 bytes.
    return Footprint(constants + code, -(-declared // 4) * 4 + output + _STACK_BYTES)


def _items(table: str) -> int:
    """Number of values in a table as it stands in the C."""
    return table.count(",") + 1 if table else 0


def _declared(member: str) -> tuple[str, str]:
    """Type and length of a member like `uint16_t codes[96]`; a single value has length 1."""
    kind, _, name = member.partition(" ")
    return kind, name[name.index("[") + 1 : -1] if "[" in name else "1"


def is_identifier(name: str) -> bool:
    """Whether a name can stand in C and C++ as it is."""
    return bool(_NAME.fullmatch(name)) and name not in _KEYWORDS


def _environment() -> Any:
    try:
        import jinja2
    except ImportError:
        raise ImportError("Jinja2 is not installed: pip install 'ddnn_tf[c]'.") from None
    return jinja2.Environment(
        loader=jinja2.PackageLoader("ddnn_tf.export.c"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=jinja2.StrictUndefined,
    )


@dataclass
class _Function:
    """What the template needs to know of one function `run_<number>`."""

    number: int
    kind: str  # rows, image of numbers, dense bits, dense numbers
    input_type: str = "uint32_t"
    output_type: str = "uint32_t"
    weights: str = ""
    thresholds: str = ""
    turned: str = ""
    places: str = ""
    steps: list[dict[str, str]] = field(default_factory=list)
    descriptor: str = ""
    row_call: str = ""
    gather: str = ""
    sum: str = ""
    fast_sums: str = ""
    units: int = 0
    fast: dict[str, Any] | None = None
    input: str = ""
    output: str = ""


class _Writer:
    """Gathers, layer by layer, what the templates ask for."""

    def __init__(self, network: IntegerNetwork, name: str, fixed_point: bool) -> None:
        self.network, self.name = network, name
        self.functions: list[_Function] = []
        self.fraction_bits = _fraction_bits(network.layers) if fixed_point else None
        self.members = [self._member(each, at.layer, at.shape) for each, at in network.outputs.items()]
        self.threshold = "int16_t"
        self.codes = [0, 0]  # plain, fast
        self.merged: list[tuple[int, int]] = []  # groups and columns of each layer
        self.margin = 0
        self.column_places = 0  # of the first layer, if it has a border
        self.pixel_taps = self.patch_words = self.planes = self.sums = 0
        self.buffers = [0, 0]
        self.kinds: set[str] = set()

    def context(self) -> dict[str, Any]:
        """Everything, for both templates."""
        given = "input"
        for number, layer in enumerate(self.network.layers):
            given = self._layer(number, layer, given)
        kinds = self.kinds
        has_rows = bool(kinds & {"pixels", "bits", "skipping", "codes"})
        shape = self.network.input_shape
        count = math.prod(shape)
        plain, fast = self._scratch()
        return {
            "input_shape": " x ".join(map(str, shape)),
            "axes": _AXES[len(shape)],
            "input_bytes": -(-count // 32) * 4 if self.network.is_binary else count,
            "input_type": "uint32_t" if self.network.is_binary else "uint8_t",
            "messages": [message for message in map(_message, self.members) if message],
            "fraction_bits": self.fraction_bits,
            "outputs": [_declaration(member) for member in self.members],
            "plain_scratch": plain,
            "fast_scratch": fast,
            "threshold_type": self.threshold,
            "number_type": "float" if self.fraction_bits is None else "int32_t",
            "functions": self.functions,
            "has_layers": any(function.descriptor for function in self.functions),
            "has_writer": any(function.kind in ("rows", "dense bits") for function in self.functions)
            or "gather bits" in kinds,
            "has_bits": bool(kinds & {"sum_bits", "skips"}),
            "sums_bits": "sum_bits" in kinds,
            "column_places": self.column_places,
            "reads_bits": bool(kinds & {"gather bits", "codes"}),
            "dense_on_pixels": "dense on pixels" in kinds,
            "dense_fast": self.sums > 0,
            "convolves_pixels": "gather pixels" in kinds,
            "pixels_fast": any(function.fast for function in self.functions),
            "convolves_bits": "gather bits" in kinds,
            "skips": "skips" in kinds,
            "unpacks": "codes" in kinds,
            "pools": has_rows,
            "pool_margin": self.margin,
            "row_kinds": [row for row in _ROWS if row[0] in kinds],
        }

    def _member(self, name: str, number: int, shape: tuple[int, ...]) -> Member:
        layer = self.network.layers[number]
        if not is_identifier(name):
            raise ValueError(f"Expected outputs named as C identifiers in lower case, but got {name!r}.")
        if layer.sign is not None:
            return Member(name, "bits", shape)
        is_float = bool(layer.steps) and self.fraction_bits is None
        return Member(name, "float32" if is_float else "int32", shape)

    def _layer(self, number: int, layer: IntegerLayer, given: str) -> str:
        """Adds a layer; returns where its bits are."""
        on_pixels = number == 0 and not self.network.is_binary
        name = next((name for name, at in self.network.outputs.items() if at.layer == number), None)
        if layer.is_dense or layer.sign is None:
            target = self._target(name, layer.output_shape, given)
            add = self._dense if layer.is_dense else self._image_of_numbers
            add(layer, on_pixels, given, target)
            return target
        # The first pool goes with the convolution, any other over the bits that the one before left.
        pools = layer.pools or (_no_pool(layer.filters),)
        shape = layer.sums_shape
        for at, pool in enumerate(pools):
            pooled: ImageShape = (*pool.window.positions(*shape[:2]), layer.filters)
            target = self._target(name if at == len(pools) - 1 else None, pooled, given)
            if at == 0:
                self._convolution(layer, pool, on_pixels, given, target)
            else:
                self._pooling(shape, pool, given, target)
            given, shape = target, pooled
        return given

    def _target(self, name: str | None, shape: Shape, given: str) -> str:
        """Where to put what a layer gives: an output, or the buffer that it does not read from."""
        if name is not None:
            return f"output->{name}"
        at = 1 if given == "scratch->bits_0" else 0
        self.buffers[at] = max(self.buffers[at], -(-int(np.prod(shape)) // 32))
        return f"scratch->bits_{at}"

    def _dense(self, layer: IntegerLayer, on_pixels: bool, given: str, target: str) -> None:
        number = len(self.functions)
        weights = layer.weights[0, 0]
        words = -(-weights.shape[0] // 32)
        call = "sum_bytes" if on_pixels else "sum_bits"
        self.kinds.add("dense on pixels" if on_pixels else "sum_bits")
        function = _Function(
            number,
            "dense numbers" if layer.sign is None else "dense bits",
            input_type="uint8_t" if on_pixels else "uint32_t",
            units=layer.filters,
            sum=f"{call}(input, weights_{number} + unit * {words}u, {weights.shape[0]}u)",
            input=given,
            output=target,
        )
        if on_pixels and layer.filters >= _SHARED_SUMS:
            count = f"{weights.shape[0]}u, {layer.filters}u"
            function.fast_sums = f"sum_all(input, weights_{number}, {count}, scratch)"
            self.sums = layer.filters
        if layer.sign is None:
            function.weights = _words(weights.T > 0)
            self._numbers(function, layer)
        else:
            turn = np.where(layer.sign.rising, 1, -1)
            function.weights = _words((weights * turn).T > 0)
            function.thresholds = self._thresholds(layer.sign.thresholds * turn)
        self.functions.append(function)

    def _image_of_numbers(self, layer: IntegerLayer, on_pixels: bool, given: str, target: str) -> None:
        number = len(self.functions)
        kind = self._kind(layer, on_pixels)
        function = _Function(
            number,
            "image of numbers",
            input_type="uint8_t" if on_pixels else "uint32_t",
            weights=_words(_by_filter(layer.weights) > 0),
            gather=_GATHER[kind].format(patch=_PATCH[kind], inside="scratch->inside"),
            sum=_SUM[kind].format(patch=_PATCH[kind], inside="scratch->inside"),
            input=given,
            output=target,
        )
        self._numbers(function, layer)
        function.descriptor = self._descriptor(layer, _no_pool(layer.filters), f"weights_{number}")
        self.functions.append(function)

    def _convolution(self, layer: IntegerLayer, pool: Pool, on_pixels: bool, given: str, target: str) -> None:
        if layer.sign is None:
            raise TypeError("A layer of numbers has no rows of bits.")
        number = len(self.functions)
        function = _Function(number, "rows", input_type="uint8_t" if on_pixels else "uint32_t")
        # Hits are sums at or above a threshold, and are joined by OR. An AND of bits is what is left when
        # no opposite bit hits; a comparison downwards is one upwards of the opposite weights.
        rising, is_or = layer.sign.rising, pool.is_or
        thresholds = layer.sign.thresholds.astype(np.int64)
        if layer.border is not None:
            reach = layer.reach(HIGHEST_CODE) + 1  # beyond it, a threshold is never reached, or always
            thresholds = np.clip(thresholds - layer.border, -reach, reach)
            self.column_places = layer.places_shape[1]
            function.places = _integers(np.concatenate(layer.places))
        limit = np.where(is_or, thresholds, np.where(rising, thresholds - 1, thresholds + 1))
        turn = np.where(rising == is_or, 1, -1)
        weights, limits = layer.weights * turn.astype(np.int8), limit * turn
        function.weights = _words(_by_filter(weights) > 0)
        function.thresholds = self._thresholds(limits.ravel())
        function.turned = _codes(~is_or)
        function.input, function.output = given, target
        kind = self._kind(layer, on_pixels)
        self.kinds.add(kind)
        inside = " scratch->inside," if kind == "skipping" else ""
        function.row_call = (
            f"row_of_{kind}(s, input, done, {_PATCH[kind]},{inside} scratch->codes + slot * size)"
        )
        table, limits_table = f"weights_{number}", f"thresholds_{number}"
        if kind == "pixels":
            function.fast = _fast(weights, limits, layer)
            if function.fast is not None:
                table, limits_table = f"EITHER({table}, 0)", f"EITHER({limits_table}, 0)"
                self.planes = (
                    len(function.fast["planes"]) * function.fast["length"] * len(function.fast["rows"])
                )
        function.descriptor = self._descriptor(layer, pool, table, limits_table, f"turned_{number}")
        self._count_codes(layer.sums_shape, pool)
        self.functions.append(function)

    def _pooling(self, shape: ImageShape, pool: Pool, given: str, target: str) -> None:
        """A pool of bits that are in memory."""
        number = len(self.functions)
        self.kinds.add("codes")
        layer = IntegerLayer(np.ones((1, 1, shape[2], shape[2]), np.int8), shape)
        descriptor = self._descriptor(layer, pool, turned=f"turned_{number}")
        self._count_codes(shape, pool)
        self.functions.append(
            _Function(
                number,
                "rows",
                turned=_codes(~pool.is_or),
                descriptor=descriptor,
                row_call="row_of_codes(s, input, done, scratch->codes + slot * size)",
                input=given,
                output=target,
            )
        )

    def _kind(self, layer: IntegerLayer, on_pixels: bool) -> str:
        if on_pixels:
            self.kinds.add("gather pixels")
            self.pixel_taps = max(self.pixel_taps, layer.taps)
            return "pixels"
        self.kinds.add("gather bits")
        self.patch_words = max(self.patch_words, -(-layer.taps // 32))
        if layer.padding == 0 and any(map(any, layer.window.margins)):
            self.kinds.add("skips")
            return "skipping"
        self.kinds.add("sum_bits")
        return "bits"

    def _numbers(self, function: _Function, layer: IntegerLayer) -> None:
        """Scales and offsets behind the sums."""
        function.output_type = "int32_t" if not layer.steps or self.fraction_bits is not None else "float"
        if not layer.steps:
            return
        if self.fraction_bits is None:
            for scale, offset in layer.steps:
                function.steps.append(
                    {"scale": "" if scale is None else _floats(scale), "offset": _floats(offset)}
                )
            return
        unit = 2.0**self.fraction_bits
        factor, shift = (np.rint(values * unit) for values in _composed(layer))
        function.steps.append({"scale": _integers(factor), "offset": _integers(shift)})

    def _thresholds(self, values: NDArray[Any]) -> str:
        if np.abs(values).max() > np.iinfo(np.int16).max:
            self.threshold = "int32_t"
        return _integers(values)

    def _descriptor(
        self,
        layer: IntegerLayer,
        pool: Pool,
        weights: str = "0",
        thresholds: str = "0",
        turned: str = "0",
    ) -> str:
        """The fields of the C structure `layer`; the last three name tables."""
        number = len(self.functions)
        shape, (rows, columns, filters) = layer.input_shape, layer.sums_shape
        pooled = pool.window.positions(rows, columns)
        window, moved = layer.window, pool.window
        if abs(layer.padding) > np.iinfo(np.int16).max:
            raise ValueError(
                f"Expected a padding of at most 32767 in size, but layer {number} pads with {layer.padding}."
            )
        large = (*shape, rows, columns, filters, -(-layer.taps // 32))
        small = (*window.size, *window.stride, *moved.size, *moved.stride, window.margins[0][0])
        if max(large) > _LIMIT - _LANES or max(small) > 0xFF:
            raise ValueError(
                f"Layer {number} ({'x'.join(map(str, shape))} to {rows}x{columns}x{filters}) is too large "
                f"for the C export, which counts to {_LIMIT - _LANES} (kernels and pools to 255)."
            )
        fields = [
            *shape, rows, columns, filters, *window.size, *window.stride, window.margins[0][0],
            window.margins[1][0], layer.padding, *pooled, *moved.size, *moved.stride, moved.margins[0][0],
            moved.margins[1][0], f"EITHER({columns}, {_rounded(columns)})", -(-layer.taps // 32),
            weights, thresholds, turned,
        ]  # fmt: skip
        if self.column_places:
            fields.append(f"places_{number}" if number == 0 else 0)
        return ", ".join(map(str, fields))

    def _count_codes(self, shape: ImageShape, pool: Pool) -> None:
        _, columns, filters = shape
        groups = -(-filters // _GROUP)
        slots = pool.window.size[0] * groups
        self.codes = [
            max(self.codes[0], slots * columns),
            max(self.codes[1], slots * _rounded(columns)),
        ]
        self.margin = max(self.margin, pool.window.size[1], pool.window.margins[1][0])
        self.merged.append((groups, _rounded(columns)))

    def _scratch(self) -> tuple[list[str], list[str]]:
        """Members of the scratch structure, in the plain and the fast build."""
        buffers = [f"uint32_t bits_{at}[{size}]" for at, size in enumerate(self.buffers) if size]
        patch = [f"uint32_t patch[{self.patch_words}]"] if self.patch_words else []
        patch += [f"uint32_t inside[{self.patch_words}]"] if "skips" in self.kinds else []
        pixels = [f"int16_t pixels[{self.pixel_taps}]"] if self.pixel_taps else []
        plain, fast = [*buffers, *patch, *pixels], [*buffers, *patch]
        if self.sums:
            fast += [f"int32_t sums[{self.sums}]", "int16_t sums_of_four[8][16]"]
        if self.planes:
            fast.append(f"int16_t planes[{self.planes}]")
        else:
            fast += pixels
        if self.codes[0]:
            plain.append(f"uint16_t codes[{self.codes[0]}]")
            merged = max(groups * (columns + 2 * self.margin) for groups, columns in self.merged)
            fast += [f"uint16_t codes[{self.codes[1]}]", f"uint16_t merged[{merged}]"]
        return plain or ["uint32_t unused"], fast or ["uint32_t unused"]


_AXES = {1: "feature", 2: "step, channel", 3: "height, width, channel"}
"""What the axes of an input mean, by their number."""

_PATCH = {"pixels": "scratch->pixels", "bits": "scratch->patch", "skipping": "scratch->patch"}
_GATHER = {
    "pixels": "gather_pixels(s, input, y, x, {patch})",
    "bits": "gather_bits(s, input, y, x, {patch})",
    "skipping": "gather_bits(s, input, y, x, {patch}), gather_inside(s, y, x, {inside})",
}
_SUM = {
    "pixels": "sum_pixels({patch}, weights, taps)",
    "bits": "sum_bits({patch}, weights, taps)",
    "skipping": "sum_inside({patch}, {inside}, weights, taps)",
}
_ROWS = [
    (
        kind,
        _GATHER[kind].format(patch="patch", inside="inside"),
        _SUM[kind].format(patch="patch", inside="inside"),
    )
    for kind in _GATHER
]


def _fraction_bits(layers: Sequence[IntegerLayer]) -> int | None:
    """How many bits may stand behind the point so that no number overflows an int32."""
    layer = layers[-1]
    if layer.sign is not None or not layer.steps:
        raise ValueError(
            "Fixed point is for a class vector or logits, but this network ends in bits or integers."
        )
    scale, offset = _composed(layer)
    reach = layer.reach(HIGHEST_CODE if len(layers) == 1 else 1)
    largest = float((np.abs(scale) * reach + np.abs(offset)).max()) + 2.0**-_FIXED_BITS
    # One bit for the sign, and room for the rounding of the scale at every input.
    bits = _FIXED_BITS - 1 - math.ceil(math.log2(largest))
    while bits > 0 and (largest * 2.0**bits + reach + 1) >= 2.0**_FIXED_BITS:
        bits -= 1
    if bits < 0:
        raise ValueError(
            f"The class vector reaches {largest:g}, which does not fit 32 bits: leave --fixed-point out."
        )
    return min(bits, _FIXED_BITS - 1)


def _composed(layer: IntegerLayer) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    scale, offset = np.ones(layer.filters), np.zeros(layer.filters)
    for factor, shift in layer.steps:
        if factor is not None:
            scale, offset = scale * factor, offset * factor
        offset = offset + shift
    return scale, offset


def _fast(weights: NDArray[np.int8], limits: NDArray[Any], layer: IntegerLayer) -> dict[str, Any] | None:
    """The straight-line form of a convolution of pixels; None where 16 bits or the stride do not allow it."""
    height, width, channels = layer.input_shape
    reach = layer.reach(HIGHEST_CODE)
    if (
        layer.window.stride != (1, 1)
        or 2 * reach + 1 > np.iinfo(np.int16).max
        or layer.filters > _FAST_FILTERS
    ):
        return None
    low, high = min(0, layer.padding), max(HIGHEST_CODE, layer.padding)
    groups = [
        range(at, min(at + _CHANNELS_OF_A_PLANE, channels)) for at in range(0, channels, _CHANNELS_OF_A_PLANE)
    ]
    planes: list[dict[str, Any]] = []
    index: dict[tuple[int, tuple[int, ...]], tuple[int, int]] = {}
    for group in groups:
        for signs in _combinations(len(group)):
            raised = -sum(low if sign > 0 else -high for sign in signs)
            index[group.start, signs] = (len(planes), raised)
            terms = "".join(
                f" {'+' if sign > 0 else '-'} c{at}" for sign, at in zip(signs, group, strict=True)
            )
            text = terms.removeprefix(" + ") + (f" + {raised}" if raised else "")
            planes.append({"text": text, "padding": layer.padding * sum(signs) + raised})
    rows = [f"row_{y}" for y in range(weights.shape[0])]
    (top, _), (left, _) = layer.window.margins
    columns = layer.sums_shape[1]
    filters = []
    # Without a border, a filter starts from one number; with one, from a table by place of row and column.
    starts = -limits.astype(np.int64).reshape(-1, limits.shape[-1])
    for number in range(layer.filters):
        lines = []
        for y, x in np.ndindex(weights.shape[:2]):
            for group in groups:
                given = tuple(int(sign) for sign in weights[y, x, group.start : group.stop, number])
                factor = given[0]
                plane, raised = index[group.start, tuple(factor * sign for sign in given)]
                starts[:, number] -= factor * raised
                lines.append(f"sum {'+' if factor > 0 else '-'}= load(row_{y} + {plane}u * LENGTH + {x}u);")
        filters.append({"number": number, "start": int(starts[0, number]), "lines": lines})
    table = None
    if layer.border is not None:
        by_place = starts.reshape(limits.shape)[:, layer.places[1]]
        padded = np.pad(by_place, ((0, 0), (0, _rounded(columns) - columns), (0, 0)))
        table = _integers(padded.transpose(0, 2, 1).ravel())
    return {
        "table": table,
        "pitch": _rounded(columns),
        "group_text": "each group of up to three channels" if channels > 1 else "one channel",
        "length": _rounded(columns) + weights.shape[1] - 1,
        "width": width,
        "channels": channels,
        "planes": planes,
        "rows": rows,
        "columns": columns,
        "top": top,
        "left": left,
        "starts": [
            {"offset": (at - top) * width * channels, "row": row}
            for at, row in enumerate(rows[:-1])
            if 0 <= at - top < height
        ],
        "filters": [
            {"at": at // _GROUP * _rounded(columns), "filters": filters[at : at + _GROUP]}
            for at in range(0, layer.filters, _GROUP)
        ],
    }


def _combinations(count: int) -> Iterable[tuple[int, ...]]:
    """Signs of a group's channels, the first of them +1: the others are their negatives."""
    return [(1, *(1 - 2 * (code >> at & 1) for at in range(count - 1))) for code in range(2 ** (count - 1))]


def _declaration(member: Member) -> Mapping[str, Any]:
    types = {"bits": "uint32_t", "float32": "float", "int32": "int32_t"}
    what = f"{' x '.join(map(str, member.shape))} {'bits' if member.kind == 'bits' else 'numbers'}"
    return {"type": types[member.kind], "name": member.name, "length": member.words, "comment": what}


def _message(member: Member) -> Mapping[str, Any] | None:
    """How the C frames an output that a device sends; None for other outputs."""
    if member.name == "features" and member.kind == "bits":
        return {"name": member.name, "kind": FEATURES, "bytes": -(-member.size // 8), "overhead": OVERHEAD}
    if member.name == "class_vector" and member.kind != "bits":
        kind = CLASS_VECTOR if member.kind == "float32" else FIXED_POINT
        return {"name": member.name, "kind": kind, "bytes": 4 * member.size, "overhead": OVERHEAD}
    return None


def _coding(network: IntegerNetwork, coding: Coding) -> dict[str, Any]:
    """Constants of the function that makes codes of readings.

    Raises:
        ValueError: The input is bits, or has another number of channels.
    """
    channels = network.input_shape[-1]
    if network.is_binary or len(coding.scale) != channels:
        raise ValueError(
            f"Expected a coding of {channels} channels for codes, but got one of {len(coding.scale)}"
            f"{' for bits' if network.is_binary else ''}."
        )
    scale, offset = (np.asarray(values, np.float32) for values in (coding.scale, coding.offset))
    return {"channels": channels, "scale": _floats(scale), "offset": _floats(offset)}


def _no_pool(filters: int) -> Pool:
    return Pool(SlidingWindow(), np.ones(filters, bool))


def _by_filter(weights: NDArray[np.int8]) -> NDArray[np.int8]:
    return weights.reshape(-1, weights.shape[3]).T


def _words(rows: NDArray[np.bool_]) -> str:
    """Rows of bits, each in words of its own."""
    return _list(f"0x{word:08x}u" for word in pack_words(rows).ravel())


def _codes(bits: NDArray[np.bool_]) -> str:
    padded = np.pad(bits, (0, -len(bits) % _GROUP))
    codes = np.packbits(padded, bitorder="little").view("<u2")
    return _list(f"0x{code:04x}u" for code in codes)


def _integers(values: NDArray[Any]) -> str:
    return _list(str(int(value)) for value in values)


def _floats(values: NDArray[np.float32]) -> str:
    """Nine significant digits give every float32 back."""
    return _list(
        f"{value:.9g}f" if re.search(r"[.e]", f"{value:.9g}") else f"{value:.9g}.0f" for value in values
    )


def _list(items: Iterable[str]) -> str:
    items = list(items)
    lines = (", ".join(items[at : at + _PER_LINE]) for at in range(0, len(items), _PER_LINE))
    return ",\n".join(f"    {line}" for line in lines)


def _rounded(columns: int) -> int:
    return -(-columns // _LANES) * _LANES
