"""The kernel-user interface: C structs, samples and hashes, the mirror of bpf/.

It knows every layout that kernel and agent share. It does not know what a sample means. Tests
compare it with the compiled program. No other package unpacks a map value or a sample.
"""
