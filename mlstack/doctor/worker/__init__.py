"""Ask torch and onnxruntime what they really can do, each in a process of its own."""
