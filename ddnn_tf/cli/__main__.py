"""`python -m ddnn_tf.cli`."""

from ddnn_tf.cli import main

if __name__ == "__main__":
    main()
