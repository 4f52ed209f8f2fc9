"""The models over a table as ONNX, from the encoded features on; the encoders are in `model.json`.

Inputs `numbers` (float [N, F]) and `categories` (int64 [N, K]), whichever there are. Output `probabilities` [N, C] or
`value` [N, 1] in the target's unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from modelyard_training.recipes.tabular.trees import Tree

_OPSETS = {"": 20, "ai.onnx.ml": 3}
_IR = 9


class _Graph:
    """A graph under construction: `op` adds a node and gives the name of its output."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any) -> str:
        from onnx import numpy_helper

        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(values, order="C"), name))
        return name

    def linear(self, x: str, weights: Mapping[str, Tensor], name: str) -> str:
        product = self.op("MatMul", x, self.constant(weights[f"{name}.weight"].numpy().T))
        return self.op("Add", product, self.constant(weights[f"{name}.bias"].numpy()))

    def norm(self, x: str, weights: Mapping[str, Tensor], name: str) -> str:
        scale, bias = (self.constant(weights[f"{name}.{part}"].numpy()) for part in ("weight", "bias"))
        return self.op("LayerNormalization", x, scale, bias, epsilon=1e-5)


def write_network(path: Path, spec: dict[str, Any], weights: Mapping[str, Tensor]) -> None:
    """A network of `predict.NETWORKS` with these weights. Raises OSError."""
    graph = _Graph()
    found = (_transformer if spec["algorithm"] == "Transformer" else _layers)(graph, spec, weights)
    if spec["classes"]:
        _write(path, graph, spec, graph.op("Softmax", found, axis=-1))
        return
    scaled = graph.op("Mul", found, graph.constant(np.float32(spec["targetScale"])))
    _write(path, graph, spec, graph.op("Add", scaled, graph.constant(np.float32(spec["targetCenter"]))))


def write_forest(path: Path, spec: dict[str, Any], trees: Sequence[Tree]) -> None:
    """The trees, whose sums are in the target's unit. Raises OSError."""
    graph = _Graph()
    parts = ["numbers"] if spec["numbers"] else []
    if spec["categorical"]:
        parts.append(graph.op("Cast", "categories", to=1))
    features = graph.op("Concat", *parts, axis=1)
    outputs = spec["outputs"] if spec["outputs"] > 2 else 1
    sums = graph.op("TreeEnsembleRegressor", features, domain="ai.onnx.ml", **_ensemble(trees, outputs))
    if spec["classes"]:
        if outputs == 1:
            sums = graph.op("Concat", graph.op("Sub", sums, sums), sums, axis=1)
        sums = graph.op("Softmax", sums, axis=-1)
    _write(path, graph, spec, sums)


def _layers(graph: _Graph, spec: dict[str, Any], weights: Mapping[str, Tensor]) -> str:
    parts = ["numbers"] if spec["numbers"] else []
    parts += _embedded(graph, spec, weights)
    x = graph.op("Concat", *parts, axis=1) if len(parts) > 1 else parts[0]
    hidden = len(spec["network"]["hidden"])
    for number in range(hidden):
        x = graph.linear(x, weights, f"layers.{3 * number}")
        x = _activation(graph, x, spec["network"]["activation"])
    return graph.linear(x, weights, f"layers.{3 * hidden}")


def _activation(graph: _Graph, x: str, kind: str) -> str:
    if kind == "SiLU":
        return graph.op("Mul", x, graph.op("Sigmoid", x))
    return graph.op({"ReLU": "Relu", "GELU": "Gelu"}[kind], x)


def _transformer(graph: _Graph, spec: dict[str, Any], weights: Mapping[str, Tensor]) -> str:
    shape = spec["network"]
    width, heads = shape["width"], shape["heads"]
    second = graph.constant(np.array([2]))
    first = np.concatenate([np.zeros((1, width), np.float32), weights["weight"].numpy()])
    bias = weights["bias"].numpy()
    given = "numbers" if spec["numbers"] else graph.op("Cast", "categories", to=1)
    if not spec["numbers"]:
        # Only the answer's token is left, whatever stands before it.
        given = graph.op("Slice", given, *(graph.constant(np.array([v])) for v in (0, 0, 1)))
    padded = graph.op("Pad", given, graph.constant(np.array([0, 1, 0, 0])))
    x = graph.op("Mul", graph.op("Unsqueeze", padded, second), graph.constant(first))
    x = graph.op("Add", x, graph.constant(bias))
    middle = graph.constant(np.array([1]))
    embedded = [graph.op("Unsqueeze", one, middle) for one in _embedded(graph, spec, weights)]
    if embedded:
        x = graph.op("Concat", x, *embedded, axis=1)
    apart = graph.constant(np.array([0, 0, 3, heads, width // heads]))
    together = graph.constant(np.array([0, 0, width]))
    scale = graph.constant(np.float32((width // heads) ** -0.5))
    for number in range(shape["layers"]):
        at = f"blocks.{number}"
        qkv = graph.op("Reshape", graph.linear(graph.norm(x, weights, f"{at}.norm"), weights, f"{at}.qkv"), apart)
        qkv = graph.op("Transpose", qkv, perm=[2, 0, 3, 1, 4])
        query, key, value = (graph.op("Gather", qkv, graph.constant(np.array(i)), axis=0) for i in range(3))
        match = graph.op("MatMul", query, graph.op("Transpose", key, perm=[0, 1, 3, 2]))
        match = graph.op("Softmax", graph.op("Mul", match, scale), axis=-1)
        mixed = graph.op("Transpose", graph.op("MatMul", match, value), perm=[0, 2, 1, 3])
        x = graph.op("Add", x, graph.linear(graph.op("Reshape", mixed, together), weights, f"{at}.out"))
        inner = graph.op("Gelu", graph.linear(graph.norm(x, weights, f"{at}.inner"), weights, f"{at}.up"))
        x = graph.op("Add", x, graph.linear(inner, weights, f"{at}.down"))
    answer = graph.op("Gather", x, graph.constant(np.array(0)), axis=1)
    return graph.linear(graph.op("Relu", graph.norm(answer, weights, "norm")), weights, "head")


def _embedded(graph: _Graph, spec: dict[str, Any], weights: Mapping[str, Tensor]) -> list[str]:
    found = []
    for number in range(len(spec["categorical"])):
        at = graph.op("Gather", "categories", graph.constant(np.array(number)), axis=1)
        found.append(graph.op("Gather", graph.constant(weights[f"embeddings.{number}.weight"].numpy()), at))
    return found


def _ensemble(trees: Sequence[Tree], outputs: int) -> dict[str, Any]:
    """The attributes of ONNX's tree ensemble. A node's number is its own, or the inner nodes' plus its leaf's."""
    nodes: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "featureids", "modes", "values")}
    nodes |= {"truenodeids": [], "falsenodeids": []}
    targets: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}

    def node(tree: int, number: int, feature: int, mode: str, value: float, yes: int, no: int) -> None:
        row = (tree, number, feature, mode, value, yes, no)
        names = ("treeids", "nodeids", "featureids", "modes", "values", "truenodeids", "falsenodeids")
        for name, item in zip(names, row, strict=True):
            nodes[name].append(item)

    for number, tree in enumerate(trees):
        leaves = tree.floats("leaf_value")
        inner = len(leaves) - 1
        children = [tree.integers(name) if inner else [] for name in ("left_child", "right_child")]
        yes, no = ([c if c >= 0 else inner + ~c for c in side] for side in children)
        splits = zip(tree.integers("split_feature"), tree.floats("threshold"), strict=True) if inner else ()
        for at, (feature, threshold) in enumerate(splits):
            node(number, at, feature, "BRANCH_LEQ", _at_most(threshold), yes[at], no[at])
        for leaf, value in enumerate(leaves):
            node(number, inner + leaf, 0, "LEAF", 0.0, 0, 0)
            for name, item in zip(targets, (number, inner + leaf, number % outputs, value), strict=True):
                targets[name].append(item)
    return {
        "n_targets": outputs,
        **{f"nodes_{name}": values for name, values in nodes.items()},
        **{f"target_{name}": values for name, values in targets.items()},
    }


def _at_most(threshold: float) -> float:
    """The largest 32-bit number up to the threshold: features have 32 bits, so that each takes the same side."""
    near: NDArray[Any] = np.float32(np.clip(threshold, -3.4e38, 3.4e38))  # type: ignore[assignment]
    return float(np.nextafter(near, np.float32(-np.inf)) if float(near) > threshold else near)


def _write(path: Path, graph: _Graph, spec: dict[str, Any], output: str) -> None:
    from onnx import TensorProto, checker, helper, save

    name = "probabilities" if spec["classes"] else "value"
    graph.nodes.append(helper.make_node("Identity", [output], [name]))
    inputs = []
    if spec["numbers"]:
        inputs.append(helper.make_tensor_value_info("numbers", TensorProto.FLOAT, ["rows", spec["numbers"]]))
    if spec["categorical"]:
        count = len(spec["categorical"])
        inputs.append(helper.make_tensor_value_info("categories", TensorProto.INT64, ["rows", count]))
    wide = spec["outputs"] if spec["classes"] else 1
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", wide])]
    made = helper.make_graph(graph.nodes, "table", inputs, outputs, graph.constants)
    opsets = [helper.make_opsetid(domain, version) for domain, version in _OPSETS.items()]
    model = helper.make_model(made, opset_imports=opsets, producer_name="modelyard", ir_version=_IR)
    checker.check_model(model)
    save(model, str(path))
