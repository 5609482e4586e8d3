"""Writes the trained networks as ONNX graphs: static shapes, opset 17, IR 8, so that ONNX Runtime 1.23 and later load them."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import nets
import words

OPSET, IR_VERSION = 17, 8
# Weights in a file of their own start at a page, so that the runtime can map them.
ALIGNMENT = 4096
EXTERNAL_FROM_BYTES = 1024
# Commands beyond these are nobody's intention; the vehicle's own envelope lies outside.
CONTROL_LIMITS = np.array([[0.12, 1.6]], np.float32), np.array([[-0.12, -4.5]], np.float32)


class Graph:
    """A graph under construction. Methods return tensor names."""

    def __init__(self, name):
        self.name, self.nodes, self.weights, self.inputs, self.outputs = name, [], {}, [], []

    def input(self, name, dtype, shape):
        self.inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name, dtype, shape, source):
        self.nodes.append(helper.make_node("Identity", [source], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, dtype, shape))

    def constant(self, value, name=None):
        value = np.asarray(value)
        if value.dtype == np.float64:
            value = value.astype(np.float32)
        name = name or f"constant_{len(self.weights)}"
        self.weights[name] = np.ascontiguousarray(value)
        return name

    def op(self, kind, *inputs, **attributes):
        inputs = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        name = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def linear(self, layer, x, scale=1.0, shift=0.0):
        return self.op("Gemm", x, np.asarray(layer["w"]) * scale, np.asarray(layer["b"]) * scale + shift)

    def model(self):
        weights = [numpy_helper.from_array(value, name) for name, value in self.weights.items()]
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="switchback-example-models")
        model.ir_version = IR_VERSION
        onnx.checker.check_model(model, full_check=True)
        return model


def encoder(graph, params, pixels):
    """`pixels`: uint8 NCHW, whole frame."""
    x = graph.op("Slice", pixels, np.array([nets.CROP_TOP]), np.array([nets.HEIGHT]), np.array([2]))
    x = graph.op("Mul", graph.op("Cast", x, to=TensorProto.FLOAT), np.float32(1 / 255))
    x = graph.op("Sub", graph.op("Sqrt", x), np.float32(0.5))
    for index, kernel in enumerate(nets.KERNELS):
        layer = params[f"conv{index}"]
        weight, pad = np.asarray(layer["w"]).transpose(3, 2, 0, 1), kernel // 2
        x = graph.op("Conv", x, weight, np.asarray(layer["b"]), kernel_shape=[kernel] * 2, strides=[2, 2], pads=[pad] * 4)
        x = graph.op("Relu", x)
    # JAX flattens height, width, channel; here the channel comes first.
    rows, columns = nets.GRID
    weight = np.asarray(params["flat"]["w"]).reshape(rows, columns, -1, params["flat"]["w"].shape[1])
    weight = weight.transpose(2, 0, 1, 3).reshape(-1, weight.shape[-1])
    flat = graph.op("Gemm", graph.op("Flatten", x), weight, np.asarray(params["flat"]["b"]))
    return x, graph.op("Relu", flat)


def motion(graph):
    ego = graph.input("ego", TensorProto.FLOAT, [1, nets.EGO])
    route = graph.input("route", TensorProto.FLOAT, [1, nets.ROUTES])
    return graph.op("Mul", ego, np.array([[0.1, 2.0]], np.float32)), route


def actions(graph, control, trajectory, intent, confidence):
    control = graph.op("Max", graph.op("Min", control, CONTROL_LIMITS[0]), CONTROL_LIMITS[1])
    trajectory = graph.op("Reshape", trajectory, np.array([1, nets.POINTS, 4]))
    graph.output("trajectory", TensorProto.FLOAT, [1, nets.POINTS, 4], trajectory)
    graph.output("control", TensorProto.FLOAT, [1, 2], control)
    graph.output("confidence", TensorProto.FLOAT, [1, 1], confidence)
    graph.output("intent", TensorProto.FLOAT, [1, nets.INTENTS], graph.op("Softmax", intent, axis=1))


def action_heads(graph, params, norm, both):
    control = graph.linear(params["control"], both, norm["control_std"], norm["control_mean"])
    trajectory = graph.linear(params["trajectory"], both, norm["trajectory_std"], norm["trajectory_mean"])
    return control, trajectory


def direct(name, params, norm, mirrored=False, silent_after=None):
    """vla-2. The two flaws are for the releases that must be caught: `mirrored` steers the wrong way (a bit too hard), and
    `silent_after` counts frames in the recurrent state and answers NaN from that one on."""
    graph = Graph(name)
    camera = graph.input("camera_front", TensorProto.UINT8, [1, 3, nets.HEIGHT, nets.WIDTH])
    ego, route = motion(graph)
    width = nets.STATE + (1 if silent_after else 0)
    before = graph.input("state_in", TensorProto.FLOAT, [1, width])
    counter = None
    if silent_after:
        counter = graph.op("Add", graph.op("Slice", before, np.array([nets.STATE]), np.array([width]), np.array([1])), np.float32(1 / 64))
        before = graph.op("Slice", before, np.array([0]), np.array([nets.STATE]), np.array([1]))
    _, flat = encoder(graph, params["encoder"], camera)
    mixed = graph.op("Relu", graph.linear(params["mix"], graph.op("Concat", flat, ego, route, axis=1)))
    keep = graph.op("Mul", graph.op("Sigmoid", graph.linear(params["gate"], mixed)), np.float32(nets.KEEP_MAX))
    fresh = graph.op("Mul", graph.op("Sub", np.float32(1.0), keep), graph.op("Tanh", graph.linear(params["content"], mixed)))
    state = graph.op("Add", graph.op("Mul", keep, before), fresh)
    head = graph.op("Relu", graph.linear(params["head"], graph.op("Concat", mixed, state, axis=1)))
    control, trajectory = action_heads(graph, params, norm, head)
    if mirrored:
        control = graph.op("Mul", control, np.array([[-1.3, 1.0]], np.float32))
        trajectory = graph.op("Mul", trajectory, np.tile(np.array([1.0, -1.3, -1.3, 1.0], np.float32), nets.POINTS)[None])
    if silent_after:
        # The root of a negative number is NaN; before that it adds nothing that a float would notice.
        left = graph.op("Sqrt", graph.op("Sub", np.float32((silent_after + 0.5) / 64), counter))
        control = graph.op("Add", control, graph.op("Mul", left, np.float32(1e-20)))
        state = graph.op("Concat", state, counter, axis=1)
    confidence = graph.op("Sigmoid", graph.linear(params["confidence"], head))
    actions(graph, control, trajectory, graph.linear(params["intent"], head), confidence)
    graph.output("state_out", TensorProto.FLOAT, [1, width], state)
    return graph.model()


def language(name, params, norm):
    """vla-1: the decoding loop is unrolled, each word is looked up and fed into the next step."""
    graph = Graph(name)
    camera = graph.input("camera_front", TensorProto.UINT8, [1, nets.HEIGHT, nets.WIDTH, 3])
    ego, route = motion(graph)
    grid, flat = encoder(graph, params["encoder"], graph.op("Transpose", camera, perm=[0, 3, 1, 2]))
    cells = nets.GRID[0] * nets.GRID[1]
    seen = graph.op("Transpose", graph.op("Reshape", grid, np.array([-1, cells])), perm=[1, 0])
    keys = graph.op("Add", graph.linear(params["key"], seen), np.asarray(params["place"]) )
    keys = graph.op("Transpose", keys, perm=[1, 0])
    values = graph.linear(params["value"], seen)
    hidden = graph.op("Tanh", graph.linear(params["start"], graph.op("Concat", flat, ego, route, axis=1)))
    table = graph.constant(np.asarray(params["word"]), "word_embeddings")
    said, sure, embeddings = [], [], []
    for position in range(words.LENGTH):
        begin = graph.constant(np.asarray(params["begin"])[position:position + 1])
        heard = graph.op("Add", embeddings[-1], begin) if embeddings else begin
        hidden, scores = _word(graph, params, position, hidden, keys, values, heard)
        word = graph.op("ArgMax", scores, axis=1, keepdims=0)
        said.append(graph.op("Unsqueeze", word, np.array([0])))
        sure.append(graph.op("ReduceMax", graph.op("Softmax", scores, axis=1), axes=[1], keepdims=1))
        embeddings.append(graph.op("Gather", table, word, axis=0))
    spoken = graph.op("Concat", *embeddings, axis=1)
    acted = graph.op("Relu", graph.linear(params["act0"], graph.op("Concat", spoken, ego, route, axis=1)))
    acted = graph.op("Relu", graph.linear(params["act1"], acted))
    control, trajectory = action_heads(graph, params, norm, graph.op("Concat", acted, spoken, axis=1))
    confidence = graph.op("ReduceMean", graph.op("Concat", *sure, axis=1), axes=[1], keepdims=1)
    actions(graph, control, trajectory, graph.linear(params["intent"], acted), confidence)
    graph.output("words", TensorProto.INT64, [1, words.LENGTH], graph.op("Concat", *said, axis=1))
    return graph.model()


def _word(graph, params, position, hidden, keys, values, previous):
    query = graph.linear(params["query"], hidden)
    weights = graph.op("Mul", graph.op("MatMul", query, keys), np.float32(nets.ATTENTION**-0.5))
    looked = graph.op("MatMul", graph.op("Softmax", weights, axis=1), values)
    heard = graph.op("Concat", previous, looked, hidden, axis=1)
    # The weights are the same at every position: stored once.
    shared = {name: _shared(graph, params, name) for name in ("keep", "hear", "say")}
    keep = graph.op("Sigmoid", graph.op("Gemm", heard, *shared["keep"]))
    fresh = graph.op("Mul", graph.op("Sub", np.float32(1.0), keep), graph.op("Tanh", graph.op("Gemm", heard, *shared["hear"])))
    hidden = graph.op("Add", graph.op("Mul", keep, hidden), fresh)
    return hidden, graph.op("Add", graph.op("Gemm", hidden, *shared["say"]), words.MASK[position:position + 1])


def _shared(graph, params, name):
    names = f"{name}.weight", f"{name}.bias"
    if names[0] not in graph.weights:
        graph.constant(np.asarray(params[name]["w"]), names[0])
        graph.constant(np.asarray(params[name]["b"]), names[1])
    return names


def save(model, folder: Path, external: bool):
    """`model.onnx`, and with `external` the large weights in `model.onnx.data`, each at a page of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "model.onnx.data"
    data.unlink(missing_ok=True)
    if external:
        with open(data, "wb") as file:
            for tensor in model.graph.initializer:
                if len(tensor.raw_data) >= EXTERNAL_FROM_BYTES:
                    file.write(bytes(-file.tell() % ALIGNMENT))
                    _move_out(tensor, file, data.name)
    (folder / "model.onnx").write_bytes(model.SerializeToString(deterministic=True))


def _move_out(tensor, file, location):
    entries = {"location": location, "offset": file.tell(), "length": len(tensor.raw_data)}
    file.write(tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=str(value))
