"""This process runs our Triton kernels in the interpreter; engines run in their own processes."""

import os

os.environ["TRITON_INTERPRET"] = "1"
