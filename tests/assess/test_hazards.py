from dataclasses import replace

import pytest
from assess_facts import SOURCE, TARGET

from crossfade.assess.hazards import HAZARDS, find_hazards
from crossfade.assess.shape import Shape


def found(source=SOURCE, target=TARGET):
    return {finding.hazard: finding for finding in find_hazards(source, target)}


def test_a_plain_model_shows_only_notes():
    assert {number: finding.severity for number, finding in found().items()} == {"H16": "note", "H24": "note"}


@pytest.mark.parametrize(
    ("source", "target", "hazard", "severity", "said"),
    [
        (
            {"capabilities": ("completion", "tools")},
            {"repo": "meta-llama/Llama-3.1-8B-Instruct"},
            "H5",
            "warn",
            "--tool-call-parser llama3_json",
        ),
        ({"capabilities": ("completion", "thinking")}, {"shape": Shape("qwen3")}, "H7", "warn", "--reasoning-parser qwen3"),
        ({"context": 8192}, {}, "H4", "warn", "8192"),
        ({}, {"served_names": ("lab:latest",)}, "H16", "stop", "clients may write lab,"),
        ({"model": "Lab:8B"}, {"served_names": ("lab",)}, "H16", "stop", "lab:8b"),
        ({"installed": ("lab:latest", "zeta:1b", "alpha:7b")}, {}, "H17", "warn", "also serves alpha:7b, zeta:1b"),
        ({}, {"shape": Shape("llama", 4, 2, 512, 256)}, "H18", "stop", "block_count is 3 on the source and 4 in crossfade/lab-model"),
        ({}, {"shape": Shape("qwen2", 3, 2, 512, 256)}, "H18", "stop", "architecture is llama on the source and qwen2"),
        ({"shape": Shape()}, {}, "H18", "stop", "nothing shows"),
        ({"shape": Shape("llama", 3)}, {}, "H18", "warn", "only architecture, block_count"),
        ({"capabilities": ("embedding",)}, {}, "H25", "stop", "excluded from the ramp"),
        ({"capabilities": ("completion", "embedding")}, {}, "H25", "warn", "excluded from the ramp"),
    ],
)
def test_each_hazard_is_found_with_its_severity_and_its_values(source, target, hazard, severity, said):
    finding = found(replace(SOURCE, **source), replace(TARGET, **target))[hazard]
    assert finding.severity == severity
    assert said in f"{finding.summary} {finding.resolution}"
    assert finding.resolution


def test_a_family_without_a_known_tool_parser_is_said_and_not_guessed():
    finding = found(replace(SOURCE, capabilities=("completion", "tools")), replace(TARGET, shape=Shape("mystery")))["H5"]
    assert "no parser is known for mystery" in finding.summary


def test_aliases_of_the_same_model_are_not_other_models():
    assert "H17" not in found(replace(SOURCE, installed=("lab:latest", "LAB")))


def test_the_worst_come_first():
    severities = [f.severity for f in find_hazards(replace(SOURCE, capabilities=("embedding", "tools"), installed=("x",)), TARGET)]
    assert severities == sorted(severities, key=["stop", "warn", "note"].index)
    assert severities[0] == "stop"


def test_the_table_names_each_hazard_once():
    assert len({hazard.number for hazard in HAZARDS}) == len(HAZARDS)
