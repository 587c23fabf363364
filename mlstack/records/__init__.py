"""Every file that mlstack writes: one module a format, with its type, its reader and writer.

Each record is frozen and strict, carries `kind` and `v`, is written beside and renamed, and is
listed in docs/formats.md with a golden file in tests/formats/.
"""
