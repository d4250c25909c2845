"""What transformers renders for small templates that use Python's functions: templates.json.

    python make_templates.py

Written by transformers 5.23.0 and jinja2. Every case has a template, what it renders to and, where
transformers raises, null. The message is the same for all, and `x` holds a few values.
"""
import json
from pathlib import Path

import jinja2
import transformers
from transformers.utils.chat_template_utils import render_jinja_template

MESSAGES = [{"role": "user", "content": "Grüße, a-b-c"}]
X = {
    "tiny": 1e-07,
    "small": 0.0001,
    "half": 0.5,
    "whole": 3.0,
    "large": 1e16,
    "huge": 1.5e22,
    "negative": -2.5e-9,
    "text": "prefix-body-suffix",
    "list": ["b", "a", "c", "a"],
    "nested": {"b": [1, 2.5, {"z": None, "a": True}], "a": "ü"},
}
TEMPLATES = (
    # Floats.
    ["{{ x.%s }}" % name for name in ("tiny", "small", "half", "whole", "large", "huge", "negative")]
    + ["{{ x.half * 3 }}", "{{ 1 / 3 }}", "{{ 2 / 1 }}", "{{ 10 ** -7 }}", "{{ 0.1 + 0.2 }}", "{{ -0.0 }}"]
    + ["{{ 1e-05 }}", "{{ 123456789.125 }}", "{{ x.whole|int }}", "{{ x.half == 0.5 }}"]
    # JSON.
    + ["{{ x.nested|tojson }}", "{{ x.nested|tojson(indent=2) }}", "{{ x.nested|tojson(sort_keys=true) }}"]
    + ["{{ x.nested|tojson(separators=(',', ':')) }}", "{{ x.nested|tojson(separators=(', ', ' = '), sort_keys=true) }}"]
    + ["{{ x.nested|tojson(indent=1, sort_keys=true) }}", "{{ x.nested|tojson(indent=1, separators=(',', ':')) }}"]
    + ["{{ x.nested|tojson(ensure_ascii=true, sort_keys=true) }}", "{{ x.tiny|tojson }}", "{{ messages|tojson }}"]
    + ["{{ {'b': 1, 'a': 2}|tojson(sort_keys=true) }}", "{{ []|tojson(indent=2) }}", "{{ {}|tojson(separators=(',', ':')) }}"]
    # Methods of strings.
    + ["{{ x.text.removeprefix('prefix-') }}", "{{ x.text.removeprefix('no') }}", "{{ x.text.removesuffix('-suffix') }}"]
    + ["{{ x.text.removesuffix('') }}", "{{ x.text.index('body') }}", "{{ messages[0].content.index('ße') }}"]
    + ["{{ x.text.index('nowhere') }}", "{{ x.text.rindex('i') }}", "{{ x.text.partition('-')[2] }}"]
    + ["{{ x.text.partition('-')|join('|') }}", "{{ x.text.partition('#')|join('|') }}"]
    + ["{{ x.text.rpartition('-')|join('|') }}", "{{ x.text.rpartition('#')|join('|') }}", "{{ x.text.partition('') }}"]
    + ["{{ x.text.partition('-')|length }}", "{{ x.text.removeprefix('prefix-').removesuffix('-suffix')|upper }}"]
    # Methods of lists.
    + ["{{ x.list.index('a') }}", "{{ x.list.index('c') }}", "{{ x.list.index('d') }}", "{{ x.list.count('a') }}"]
    + ["{{ [1, 2, 3].index(3) }}"]
    # Cyclers and joiners.
    + ["{% set c = cycler('odd', 'even') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}"]
    + ["{% set c = cycler('a', 'b') %}{{ c.next() }}-{{ c.next() }}-{{ c.next() }}"]
    + ["{% set j = joiner() %}{% for i in x.list %}{{ j() }}{{ i }}{% endfor %}"]
    + ["{% set j = joiner(' | ') %}{% for i in x.list %}{{ j() }}{{ i }}{% endfor %}"]
    # What is not defined.
    + ["[{{ missing }}]", "{{ missing.field }}", "{{ messages[0].nothing.more }}", "{{ missing is defined }}"]
)


def main():
    cases = []
    for template in TEMPLATES:
        try:
            rendered, _ = render_jinja_template([MESSAGES], chat_template=template, x=X)
            text = rendered[0]
        except (jinja2.TemplateError, ValueError, TypeError):
            text = None
        cases.append(dict(template=template, text=text))
    versions = dict(transformers=transformers.__version__, jinja2=jinja2.__version__)
    path = Path(__file__).parent / "templates.json"
    path.write_text(json.dumps(dict(versions=versions, messages=MESSAGES, x=X, cases=cases), indent=1, ensure_ascii=False) + "\n")


main()
