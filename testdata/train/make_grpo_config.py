"""Writes grpo_config.json: every key that `trl grpo --config` reads, with its type and default.

These are the fields of TRL's GRPOConfig, ModelConfig, ScriptArguments, of the script's own arguments and of
DatasetMixtureConfig, as its parser sees them, and what the parser and the launcher take from the file themselves. Made with the version of trl that the file names. Run: python make_grpo_config.py
"""

import dataclasses
import json
import typing
from pathlib import Path

import trl
from trl import DatasetMixtureConfig, GRPOConfig, ModelConfig, ScriptArguments
from trl.scripts.grpo import GRPOScriptArguments


def plain(value):
    return value if isinstance(value, (bool, int, float, str, list, dict, type(None))) else str(value)


def fields(cls, without=()):
    rows = {}
    for field in dataclasses.fields(cls):
        if not field.init or field.name in without:
            continue
        if field.default is not dataclasses.MISSING:
            default = plain(field.default)
        elif field.default_factory is not dataclasses.MISSING:
            default = plain(field.default_factory())
        else:
            default = "required"
        kind = field.type if isinstance(field.type, str) else str(field.type)
        rows[field.name] = {"type": kind.replace("typing.", ""), "default": default}
    return rows


result = {
    "trl": trl.__version__,
    "GRPOConfig": fields(GRPOConfig),
    "ModelConfig": fields(ModelConfig),
    "GRPOScriptArguments": fields(GRPOScriptArguments),
    "DatasetMixtureConfig": fields(DatasetMixtureConfig),
    "TrlParser": {"env": {"type": "dict", "default": {}}},
    "launcher": {"accelerate_config": {"type": "str | None", "default": None}},
}
Path(__file__).with_name("grpo_config.json").write_text(json.dumps(result, indent=1) + "\n")
