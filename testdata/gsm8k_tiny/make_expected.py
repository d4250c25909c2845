"""What transformers makes of the checkpoint shipped with examples/gsm8k_tiny.

    pip install torch==2.11.0 transformers==5.23.0
    python testdata/gsm8k_tiny/make_expected.py

Writes expected.json: the ids of a problem and its solution, the logits at the last position, and
the log-probability of every id from the second on, in f32.
"""

import json
import pathlib

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

here = pathlib.Path(__file__).parent
folder = here.parent.parent / "examples/gsm8k_tiny/warm_up"
text = (
    "Mia has 41 shells, finds 7, sells 9. How many shells does Mia have now?\n"
    "<<41+7=48>>48 shells\n<<48-9=39>>39 shells\n#### 39"
)

tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
ids = tokenizer(text, add_special_tokens=False)["input_ids"]
with torch.no_grad():
    logits = model(torch.tensor([ids])).logits[0]
logps = logits.log_softmax(-1)
of_ids = [logps[i, token].item() for i, token in enumerate(ids[1:])]
expected = {"text": text, "ids": ids, "logits": logits[-1].tolist(), "logps": of_ids}
(here / "expected.json").write_text(json.dumps(expected))
