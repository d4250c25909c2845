"""Compares our chat templates with transformers', byte for byte, on the templates of a TRL wheel.

    cargo build -p g2rpo-libtorch --example render_chat
    HF_HUB_OFFLINE=1 python check_chat.py target/debug/examples/render_chat

Checked with trl 1.16.0 and transformers 5.23.0. Nothing of the wheel is copied: the unit tests of
chat/mod.rs hold templates of our own that use the same features of Jinja.
"""
import itertools
import json
import subprocess
import sys
from pathlib import Path

import trl
from transformers.utils.chat_template_utils import render_jinja_template

TEMPLATES = [
    "qwen2_5", "qwen2_5_training", "qwen3", "qwen3_training", "qwen3_instruct_2507",
    "qwen3_instruct_2507_training", "llama3", "llama3_training", "llama3_1", "llama3_2",
    "deepseek_r1_distill", "deepseek_r1_distill_training",
]
SPECIAL = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|end|>"}
SYSTEM = {"role": "system", "content": "  Be brief.\n"}
USER = {"role": "user", "content": "What is 2+2? <b>é 数</b> "}
THINKS = {"role": "assistant", "content": "<think>\nTwo and two.\n</think>\n\nIt is 4.\n"}
REASONS = {"role": "assistant", "content": "It is 4.", "reasoning_content": "\nTwo and two.\n"}
PLAIN = {"role": "assistant", "content": "  It is 4. "}
OPEN = {"role": "assistant", "content": "Janet has 16 - 3 "}
OPEN_THINKING = {"role": "assistant", "content": "<think>\nTwo and "}
AGAIN = {"role": "user", "content": "And 3+3?"}
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"type": "function", "function": {"name": "add", "arguments": {"a": 2, "b": 2.5, "note": "<é>", "deep": [1, {"k": None}]}}}]}
RESULT = {"role": "tool", "name": "add", "content": "4.5"}
TOOLS = [{"type": "function", "function": {"name": "add", "description": "Adds & <rounds>.", "parameters": {
    "type": "object", "required": ["a"], "properties": {"a": {"type": "number"}, "b": {"type": "number", "default": 1e-07}}}}}]
CONVERSATIONS = {
    "user": [USER],
    "system": [SYSTEM, USER],
    "turns": [SYSTEM, USER, PLAIN, AGAIN],
    "answered": [SYSTEM, USER, PLAIN, AGAIN, PLAIN],
    "thinks": [USER, THINKS, AGAIN],
    "thinks_last": [USER, THINKS],
    "reasons": [USER, REASONS, AGAIN, REASONS],
    "open": [SYSTEM, USER, OPEN],
    "open_after_turns": [USER, THINKS, AGAIN, OPEN],
    "open_thinking": [USER, OPEN_THINKING],
    "call": [SYSTEM, USER, CALL],
    "tool": [USER, CALL, RESULT],
    "two_tools": [USER, CALL, RESULT, RESULT, PLAIN, AGAIN],
}


def cases():
    folder = Path(trl.__file__).parent / "chat_templates"
    switches = [(False, False), (True, False), (False, True)]
    for template, (name, messages), tools, thinking, (prompt, go_on) in itertools.product(
        TEMPLATES, CONVERSATIONS.items(), [None, TOOLS], [None, True, False], switches
    ):
        if go_on and messages[-1]["role"] != "assistant":
            continue
        yield dict(
            name=f"{template}/{name} tools={tools is not None} enable_thinking={thinking}"
                 f" add_generation_prompt={prompt} continue_final_message={go_on}",
            template=(folder / f"{template}.jinja").read_text(),
            messages=messages, tools=tools, special_tokens=SPECIAL,
            variables={} if thinking is None else {"enable_thinking": thinking},
            add_generation_prompt=prompt, continue_final_message=go_on,
        )


def expected(case):
    try:
        texts, _ = render_jinja_template(
            [case["messages"]], tools=case["tools"], chat_template=case["template"],
            add_generation_prompt=case["add_generation_prompt"],
            continue_final_message=case["continue_final_message"],
            **case["special_tokens"], **case["variables"],
        )
    except Exception:
        return None
    return texts[0]


def main():
    all_cases = list(cases())
    run = subprocess.run([sys.argv[1]], input=json.dumps(all_cases), stdout=subprocess.PIPE,
                         stderr=subprocess.DEVNULL, text=True, check=True)
    wrong = refused = 0
    for case, ours in zip(all_cases, json.loads(run.stdout), strict=True):
        theirs = expected(case)
        refused += theirs is None
        if ours != theirs:
            wrong += 1
            if wrong <= 5:
                print(case["name"], "\n  theirs", repr(theirs), "\n  ours  ", repr(ours))
    print(f"{len(all_cases)} cases, {len(all_cases) - wrong} equal ({refused} refused by both), {wrong} differ")
    sys.exit(wrong > 0)


main()
