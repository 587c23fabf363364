"""Raw bytes and rows -> arrays: the one code that training, verification and serving share."""
