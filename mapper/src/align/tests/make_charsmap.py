"""Makes charsmap.txt, a small SentencePiece normaliser as tokenizer.json has it in `Precompiled`: pip install sentencepiece protobuf"""

import base64
import io
import pathlib
import tempfile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

RULES = {
    "e\u0301": "\u00e9",
    "o\u0302": "\u00f4",
    "\u1100\u1161": "\uac00",
    "\uff76\uff9e": "\u30ac",
    "\ufb01": "fi",
    "\u2026": "...",
    "\u338f": "kg",
    "\u00bd": "1\u20442",
    "\ufb2e": "\u05d0\u05b7",
    "\uff21": "A",
    "\u3000": " ",
    "\u00a0": " ",
    "\t": " ",
    "\u0001": "",
    "\u200b": "",
    "\u00ad": "",
}

here = pathlib.Path(__file__).parent
with tempfile.TemporaryDirectory() as folder:
    rules = pathlib.Path(folder) / "rules.tsv"
    spelt = lambda text: " ".join(f"{ord(char):X}" for char in text)
    rules.write_text("".join(f"{spelt(old)}\t{spelt(new)}\n" for old, new in RULES.items()))
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["some text to train on, which decides nothing"]),
        model_writer=model,
        vocab_size=32,
        hard_vocab_limit=False,
        normalization_rule_tsv=str(rules),
        minloglevel=2,
    )
proto = sentencepiece_model_pb2.ModelProto()
proto.ParseFromString(model.getvalue())
(here / "charsmap.txt").write_text(base64.b64encode(proto.normalizer_spec.precompiled_charsmap).decode() + "\n")
