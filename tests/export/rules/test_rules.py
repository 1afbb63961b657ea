"""Every rule finds what it is about, and only that; the accelerators agree where they can judge."""

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from tests.export.models import attention, convolution_and_group_norm, normal
from tests.export.rules import violations
from tests.export.rules.violations import CLEAN, GPU, MAP, OTHERS, ROWS, dynamic_range, fp16
from tfsnap.export.delegate import check_on_gpu
from tfsnap.export.rules.checker import RULES, check_model
from tfsnap.export.rules.limits import GPU_CLASSES, find_gpu_class
from tfsnap.export.rules.rule import ALL, Effect
from tfsnap.export.rules.targets import TARGETS

ROOT = Path(__file__).parents[3]


def check(model, target, **more):
    return check_model(model, TARGETS[target], name="model", **more)


def inputs_of(case):
    return {
        name: normal(*shape, seed=i)
        for i, (name, shape) in enumerate(zip("ab", case.shapes, strict=False))
    }


@pytest.mark.parametrize("case", [*GPU, *OTHERS], ids=str)
def test_a_violation_is_found_where_it_is(case):
    verdict = check(case.model(), case.target)
    found = [f for f in verdict.findings if f.rule.id == case.rule]
    assert not verdict.passed, verdict
    assert case.builtin in {finding.operator.builtin for finding in found}, verdict.findings
    assert all(case.target in finding.rule.targets for finding in found)


def test_every_rule_has_a_violation():
    covered = {case.rule for case in (*GPU, *OTHERS)}
    notes = {rule.id for rule in RULES if rule.effect is Effect.NOTE}  # They fail no model.
    assert {rule.id for rule in RULES} - covered == notes


def test_the_guide_has_every_rule_and_its_reason():
    guide = (ROOT / "docs/delegates.md").read_text()
    for rule in RULES:
        row = next(line for line in guide.splitlines() if line.startswith(f"| `{rule.id}` |"))
        targets = "all" if rule.targets == ALL else ", ".join(rule.targets)
        assert row == f"| `{rule.id}` | {targets} | {rule.effect.value} | {rule.reason} |"


@pytest.mark.parametrize("case", GPU, ids=str)
def test_the_gpu_refuses_what_the_rules_refuse(case, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(case.model())
    report = check_on_gpu(path, inputs_of(case))
    assert not report.passed, report
    wrong = any(f.rule.effect is Effect.WRONG for f in check(path, "gpu").findings)
    assert report.whole == wrong  # It compiles what the rules call wrong, and refuses the rest.


@pytest.mark.parametrize("function", [*CLEAN, attention])
def test_the_gpu_takes_what_the_rules_let_pass(function, tmp_path):
    path = tmp_path / "model.tflite"
    shape = (1, 12, 16) if function is attention else ROWS
    path.write_bytes(fp16(function, shape))
    verdict = check(path, "gpu")
    assert verdict.passed, verdict.findings
    report = check_on_gpu(path, {"a": normal(*shape)})
    assert report.passed, report


@pytest.mark.parametrize("shape", [ROWS, MAP])
def test_the_gpu_takes_stored_int8_that_the_rules_let_pass(shape, tmp_path):
    path = tmp_path / "model.tflite"
    path.write_bytes(violations.int8_stored(lambda a: a * normal(*shape), shape))
    assert check(path, "gpu").findings == ()
    report = check_on_gpu(path, {"a": normal(*shape)})
    assert report.passed, report


def xnnpack_takes_whole(model):
    """Whether one delegate node stands for all of the graph."""
    interpreter = Interpreter(model_content=model)
    interpreter.allocate_tensors()
    delegates = [d for d in interpreter._get_ops_details() if d["op_name"] == "DELEGATE"]
    results = {detail["index"] for detail in interpreter.get_output_details()}
    sources = {detail["index"] for detail in interpreter.get_input_details()}
    whole = [d for d in delegates if results <= set(d["outputs"]) and sources <= set(d["inputs"])]
    return len(delegates) == 1 and len(whole) == 1


@pytest.mark.parametrize("case", [c for c in OTHERS if c.target == "xnnpack"], ids=str)
def test_xnnpack_leaves_what_the_rules_refuse(case):
    assert not xnnpack_takes_whole(case.model())


@pytest.mark.parametrize(
    ("function", "shape"),
    [(attention, (1, 12, 16)), (convolution_and_group_norm, (1, 8, 8, 8)), (CLEAN[-1], ROWS)],
)
def test_xnnpack_takes_what_the_rules_let_pass(function, shape):
    model = fp16(function, shape)
    assert check(model, "xnnpack").findings == ()
    assert xnnpack_takes_whole(model)


def test_a_flat_product_with_int8_weights_is_noted():
    model = dynamic_range(lambda a: violations.tf.matmul(a, normal(64, 64)), (12, 64))
    verdict = check(model, "gpu")
    assert verdict.passed
    assert [finding.rule.id for finding in verdict.findings] == ["int8-flat-product"]


def test_scores_of_large_maps_fit_some_gpus_and_not_others():
    model = fp16(lambda a, b: violations.tf.matmul(a, b, transpose_b=True), *[(1, 8, 4096, 40)] * 2)

    def rules(gpu):
        found = check(model, "gpu", gpu=find_gpu_class(gpu)).findings
        return {finding.rule.id for finding in found}

    # [1, 8, 4096, 4096] in half precision is 4096 x 8192 pixels, or 256 MiB.
    assert rules("vulkan-minimum") == {"too-large"}
    assert rules("adreno-740") == set()
    assert set(GPU_CLASSES) >= {"vulkan-minimum", "adreno-740", "mali-g710"}


def test_long_rows_are_kept_in_buffers():
    model = fp16(lambda a: a * 2.0, (1, 100_000, 4))
    verdict = check(model, "gpu", gpu=find_gpu_class("adreno-740"))
    assert [finding.rule.id for finding in verdict.findings] == ["only-buffer"]
    assert verdict.passed
    assert "100,000 x 1 pixels or 1 MiB" in verdict.findings[0].detail
    assert np.prod((100_000, 4)) * 2 / 2**20 == pytest.approx(0.76, abs=0.01)


def test_an_unknown_gpu_is_told():
    with pytest.raises(ValueError, match="GPU class is 'voodoo'; it must be one of vulkan-minimum"):
        find_gpu_class("voodoo")
