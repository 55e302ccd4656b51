"""Lines kept on disk until their receiver has acknowledged them.

This room knows no event and no format: a line is bytes with a number.
"""
