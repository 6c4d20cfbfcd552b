"""Trained models in formats of other runtimes, each proved against PyTorch before it is kept.

job: the whole of an export. graph: what is exported, from uint8 images to logits, probabilities or a mask. table: the
formats. onnx_file, openvino_files, program_file, compiled_file, web_folder: a writer each. web/: what predicts in a
browser. parity: what an exported model and PyTorch say of the same images. quantize: int8, as far as validation allows.
bench: runtimes, timed side by side.
"""
