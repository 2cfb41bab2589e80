"""One-operator models for ONNX Runtime and OpenVINO, set up to cost as little around the operator as they can."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import pycomp


def session(
    operator: str, inputs: dict[str, np.ndarray], weights: dict[str, np.ndarray], y: np.ndarray,
    domain: str = "", **attributes: object
) -> Callable[[], object]:
    """A call of ``operator`` on ``inputs`` and constant ``weights``, which fills ``y`` and returns it."""
    import onnx
    import onnxruntime
    from onnx import helper, numpy_helper

    def value(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)

    node = helper.make_node(operator, [*inputs, *weights], ["y"], domain=domain, **attributes)
    graph = helper.make_graph([node], "g", [value(n, a) for n, a in inputs.items()], [value("y", y)],
                              [numpy_helper.from_array(a, n) for n, a in weights.items()])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = pycomp.get_num_threads(), 1
    run = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    binding = run.io_binding()
    for name, array in inputs.items():
        binding.bind_ortvalue_input(name, onnxruntime.OrtValue.ortvalue_from_numpy(array))
    binding.bind_ortvalue_output("y", onnxruntime.OrtValue.ortvalue_from_numpy(y))

    def call() -> np.ndarray:
        run.run_with_iobinding(binding)
        return y

    return call


def openvino_request(model: object, x: np.ndarray, **more: object) -> Callable[[], object]:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": pycomp.get_num_threads(), "NUM_STREAMS": 1, "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": "f32", **more}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()
    request.set_input_tensor(0, openvino.Tensor(x, shared_memory=True))
    return request.infer
