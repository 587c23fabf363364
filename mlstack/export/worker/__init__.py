"""The processes of `export`: build (torch), quantize, measure and replay (onnxruntime)."""
