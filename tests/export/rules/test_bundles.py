"""What the rules say of bundles that were exported."""

import pytest

from tfsnap.export.rules.checker import check_model
from tfsnap.export.rules.models import models_of
from tfsnap.export.rules.report import table
from tfsnap.export.rules.targets import TARGETS

# What is known to stay off the classic delegate: token ids arrive with a batch axis.
CLASSIC = {"text_encoder": {"int32"}}


def failures(verdict):
    return {finding.rule.id for finding in verdict.findings if finding.fails}


def verdicts(path, target):
    with models_of(path) as models:
        return {
            model.name: check_model(model.path, TARGETS[target], name=model.name)
            for model in models
        }


def test_an_fp16_bundle_passes_for_the_gpu(bundles):
    found = verdicts(bundles["fp16"], "gpu")
    assert set(found) == {"text_encoder", "unet", "decoder", "encoder"}
    assert all(verdict.passed and not verdict.findings for verdict in found.values()), found
    assert table(found.values()).count("on gpu: passes") == 4


def test_an_fp16_bundle_keeps_to_the_classic_delegate_but_for_what_is_known(bundles):
    for name, verdict in verdicts(bundles["fp16"], "gpu_classic").items():
        assert failures(verdict) == CLASSIC.get(name, set()), verdict.findings


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_xnnpack_leaves_only_copies(bundles, precision):
    for verdict in verdicts(bundles[precision], "xnnpack").values():
        assert verdict.passed, verdict.findings
        assert {finding.rule.id for finding in verdict.findings} <= {"copy"}
        kinds = {finding.operator.builtin for finding in verdict.findings}
        assert kinds <= {"GATHER", "RESHAPE", "RESIZE_NEAREST_NEIGHBOR"}


def test_findings_name_layers_by_their_addresses(bundles):
    unet = verdicts(bundles["fp16"], "coreml")["unet"]
    layers = {finding.operator.layer.split("/")[0] for finding in unet.findings}
    assert "down.0.resnets.0.norm1" in layers
    assert "mid.attentions.0.0.cross_attention.key" in layers
    assert not unet.passed
