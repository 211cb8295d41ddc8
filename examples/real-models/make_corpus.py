#!/usr/bin/env python3
"""Writes a corpus of short English texts as JSON lines, from Debian's package `fortunes`.

    apt-get download fortunes && dpkg -x fortunes_*.deb fortunes
    python make_corpus.py fortunes/usr/share/games/fortunes > fortunes.jsonl

Pictures made of letters and texts below 60 characters are left out. The rest is shuffled with a fixed seed, so that a fit
that stops early has seen every collection, and joined to documents of about 1,000 characters, since engines read long texts
faster than short ones. With fortunes 1:1.99.1-7.3 the SHA-256 of the
output is the one in the provenance of the map that examples/real-models/README.md reports on.
"""

import json
import random
import sys
from pathlib import Path

texts = []
for path in sorted(Path(sys.argv[1]).iterdir()):
    if path.is_symlink() or path.suffix in (".dat", ".u8") or path.name == "ascii-art":
        continue
    texts += [text.strip() for text in path.read_text("utf-8").split("\n%\n")]
texts = [text for text in texts if len(text) >= 60]
random.Random(1).shuffle(texts)
document = ""
for text in texts:
    document = f"{document}\n\n{text}" if document else text
    if len(document) >= 1000:
        print(json.dumps({"text": document}))
        document = ""
