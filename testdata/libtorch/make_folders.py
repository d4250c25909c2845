"""What transformers makes of folders whose files disagree or say more than they should: folders.json.

    HF_HUB_OFFLINE=1 python make_folders.py

Written by torch 2.11.0, transformers 5.23.0, tokenizers 0.22. Three tables:

    tokenizers  truncation and padding stored in tokenizer.json: the two settings, and the ids of TEXT
    heads       tied or not, and what lm_head.weight the file holds: config.json, `head` (absent, same or other; see
                `values`), and the logits behind the last of IDS
    templates   chat templates in tokenizer_config.json and in files: what is in them, and the text of MESSAGES, or
                `error`: "none" where there is no template, "ambiguous" where there are several without a default
"""
import json
import tempfile
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedTokenizerFast

WORDS = {word: id for id, word in enumerate("<pad> <unk> a b c d e f".split())}
TEXT = "a b c d e f a f b e c d a b c d e f"
IDS = [3, 1, 4, 1, 5, 9, 2, 6]
MESSAGES = [{"role": "user", "content": "1+1?"}]


def tokenizers(folder):
    def truncation(max_length, strategy="LongestFirst", direction="Right", stride=0):
        return dict(max_length=max_length, strategy=strategy, direction=direction, stride=stride)

    def padding(strategy, direction="Right", multiple=None, id=0):
        return dict(strategy=strategy, direction=direction, pad_to_multiple_of=multiple, pad_id=id, pad_type_id=0,
                    pad_token="<pad>")

    longest, fixed = "BatchLongest", lambda n: {"Fixed": n}
    settings = [(truncation(n), None) for n in (1, 4, 17, 18, 512)]
    settings += [(truncation(5, "OnlyFirst"), None), (truncation(5, "OnlySecond"), None), (truncation(6, direction="Left"), None),
                 (truncation(6, stride=2), None)]
    settings += [(None, padding(fixed(n))) for n in (4, 18, 64)]
    settings += [(None, padding(longest)), (None, padding(longest, multiple=8)), (None, padding(longest, "Left", 16)),
                 (None, padding(fixed(32), "Left")), (None, padding(fixed(32), id=3))]
    settings += [(truncation(4), padding(fixed(4))), (truncation(4), padding(fixed(9))), (truncation(30), padding(longest, multiple=32)),
                 (truncation(7, direction="Left"), padding(fixed(12), "Left"))]
    tokenizer = Tokenizer(WordLevel(WORDS, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Whitespace()
    plain = json.loads(tokenizer.to_str())
    cases = []
    for cut, pad in settings:
        path = folder / "tokenizer.json"
        path.write_text(json.dumps(dict(plain, truncation=cut, padding=pad)))
        ids = PreTrainedTokenizerFast(tokenizer_file=str(path))(TEXT)["input_ids"]
        cases.append(dict(truncation=cut, padding=pad, ids=ids))
    return dict(tokenizer=plain, text=TEXT, cases=cases)


def values(name, shape, shift=0):
    """Numbers that anyone can compute: fractions of 1009 between -1/2 and 1/2 by place and name; norms around 1."""
    n = 1
    for size in shape:
        n *= size
    start = sum(name.encode()) + shift
    numbers = [((i * 7919 + start * 104729) % 1009) / 1009 - 0.5 for i in range(n)]
    return torch.tensor(numbers, dtype=torch.float64).view(shape).float()


def heads(folder):
    shape = dict(vocab_size=11, hidden_size=8, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2,
                 num_key_value_heads=1, head_dim=4, max_position_embeddings=32, bos_token_id=None, eos_token_id=None,
                 pad_token_id=None)
    cases = []
    for family in ["llama", "qwen2", "qwen3", "smollm3", "granite", "gemma3_text"]:
        for tied, head in [(True, "other"), (True, "same"), (True, "absent"), (False, "other"), (None, "other")]:
            # What a file that says nothing means differs between families.
            config = dict(shape, model_type=family, **({} if tied is None else dict(tie_word_embeddings=tied)))
            model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**config))
            state = {name: values(name, tensor.shape) for name, tensor in model.state_dict().items()}
            state.pop("lm_head.weight", None)
            if head != "absent":
                state["lm_head.weight"] = values("model.embed_tokens.weight", (11, 8), 0 if head == "same" else 7)
            save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
            (folder / "config.json").write_text(json.dumps(config))
            read = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
            with torch.inference_mode():
                logits = read(torch.tensor([IDS])).logits[0, -1]
            cases.append(dict(config=config, head=head, logits=[round(x, 7) for x in logits.tolist()]))
    return dict(ids=IDS, cases=cases)


def templates():
    one = "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}"
    two = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"

    def named(**templates):
        return [dict(name=name, template=template) for name, template in templates.items()]

    layouts = [(None, {}), (one, {}), ("", {}), ([], {})]
    layouts += [(named(default=one), {}), (named(default=one, rag=two), {}), (named(rag=two, default=one), {}),
                (named(tool_use=two, default=one), {}), (named(tool_use=two), {}), (named(rag=one), {}),
                (named(rag=one, tool_use=two), {}), (named(Default=one), {}), (named(default=one, default2=two), {}),
                (named(a=one, b=one, c=one), {})]
    file, more = "chat_template.jinja", "additional_chat_templates/"
    layouts += [(None, {file: one}), (two, {file: one}), (named(default=two), {file: one}), (named(rag=two), {file: one}),
                (named(rag=two, tool_use=two), {file: one}), (None, {file: one, more + "rag.jinja": two}),
                (None, {more + "rag.jinja": two}), (None, {more + "default.jinja": two}),
                (None, {more + "rag.jinja": two, more + "tool_use.jinja": two}), (one, {more + "rag.jinja": two}),
                (None, {file: ""}), ([], {file: one})]
    cases = []
    for config, files in layouts:
        with tempfile.TemporaryDirectory() as folder:
            folder = Path(folder)
            tokenizer = Tokenizer(WordLevel(WORDS, unk_token="<unk>"))
            tokenizer.save(str(folder / "tokenizer.json"))
            settings = dict(tokenizer_class="PreTrainedTokenizerFast")
            if config is not None:
                settings["chat_template"] = config
            (folder / "tokenizer_config.json").write_text(json.dumps(settings))
            for name, text in files.items():
                (folder / name).parent.mkdir(exist_ok=True)
                (folder / name).write_text(text)
            read = PreTrainedTokenizerFast.from_pretrained(folder)
            case = dict(config=config, files=files)
            try:
                case["text"] = read.apply_chat_template(MESSAGES, tokenize=False)
            except ValueError as error:
                case["error"] = "ambiguous" if "no default" in str(error) else "none"
            cases.append(case)
    return cases


def main():
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        tables = dict(tokenizers=tokenizers(Path(folder)), heads=heads(Path(folder)), templates=templates())
    path = Path(__file__).parent / "folders.json"
    path.write_text(json.dumps(tables, indent=None, separators=(",", ":")).replace('},{"', '},\n{"') + "\n")


main()
