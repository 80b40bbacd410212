"""The demo model's tokenizer and the packing of samples into training rows."""

import functools
import io
import random

import numpy as np
import sentencepiece
import torch

from demo_model import EOS, FIRST_TEXT_POSITION
from demo_scenes import CLASS_NAMES, CLASS_PLURALS, COLOURS
from demo_text import caption_text, corpus, random_sample

TOKENIZER_CONFIG = {
    "add_bos_token": True,
    "add_eos_token": False,
    "bos_token": "<s>",
    "eos_token": "</s>",
    "unk_token": "<unk>",
    "pad_token": None,
    "clean_up_tokenization_spaces": False,
    "legacy": True,
    "model_max_length": 2048,
    "tokenizer_class": "LlamaTokenizer",
}

# How much an answer token counts: the leading digit of a coordinate decides,
# punctuation inside a box is nearly certain.
_DIGIT_WEIGHTS = (1.0, 0.7, 0.3)
_PUNCTUATION_WEIGHT = 0.15


def train_tokenizer(path, scenes, seed=1, vocabulary=1024):
    """Train a LLaMA-style SentencePiece BPE model on generated text."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=corpus(scenes, seed), model_writer=model, model_type="bpe",
        vocab_size=vocabulary, byte_fallback=True, split_digits=True, character_coverage=1.0,
        normalization_rule_name="identity", add_dummy_prefix=True,
        remove_extra_whitespaces=False, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
        num_threads=1, minloglevel=2)
    with open(path, "wb") as out:
        out.write(model.getvalue())


class Tokenizer:
    def __init__(self, path):
        self.model = sentencepiece.SentencePieceProcessor(model_file=path)
        self.encode = functools.lru_cache(maxsize=200_000)(self._encode)

    def _encode(self, text):
        return tuple(self.model.encode(text))

    def decode(self, ids):
        return self.model.decode(list(ids))

    def single(self, word):
        """The id of ' word' if it is one token, else None."""
        ids = self.encode(word)
        return ids[0] if len(ids) == 1 else None

    def split_names(self):
        """Names of the scenes that take more than one token."""
        names = CLASS_NAMES + CLASS_PLURALS + COLOURS
        return sorted({n for n in names if self.single(n) is None})


class Packer:
    """Puts samples about one picture into one row of `length` text tokens."""

    def __init__(self, tokenizer, length):
        self.tokenizer = tokenizer
        self.length = length
        pieces = [tokenizer.model.id_to_piece(i) for i in range(tokenizer.model.get_piece_size())]
        self.opening = {i for i, p in enumerate(pieces) if "[[" in p}
        self.closing = {i for i, p in enumerate(pieces) if "]]" in p}
        self.digits = {i for i, p in enumerate(pieces) if p.isdigit() and len(p) == 1}

    def weights(self, answer):
        """One weight per answer token, and one for the end token."""
        out, inside, place = [], False, 0
        for token in answer:
            if token in self.digits and inside:
                out.append(_DIGIT_WEIGHTS[place % 3])
                place += 1
            elif inside and token not in self.closing:
                out.append(_PUNCTUATION_WEIGHT)
            else:
                out.append(1.0)
            if token in self.opening:
                inside, place = True, 0
            elif token in self.closing:
                inside = False
        return out + [1.0]

    def row(self, scene, rng):
        """Token ids, positions, segment numbers and targets of one picture.

        Targets are (index, token, weight); index counts the language tokens
        BOS, eoi, text, so that 1 is eoi, which an empty prompt starts from.
        """
        tokens = np.zeros(self.length, np.int64)
        positions = np.full(self.length, FIRST_TEXT_POSITION, np.int64)
        segments = np.full(self.length, -1, np.int64)
        targets = []
        start = number = misses = 0
        pending = [("", caption_text(scene))] if rng.random() < 0.4 else []
        while misses < 4:
            if pending:
                prompt, answer = pending.pop()
            else:
                sample = random_sample(scene, rng)
                prompt, answer = sample.prompt(), sample.answer
                if not prompt:
                    continue
            prompt, answer = self.tokenizer.encode(prompt), self.tokenizer.encode(answer)
            ids = prompt + answer
            end = start + len(ids)
            if end > self.length:
                misses += 1
                continue
            tokens[start:end] = ids
            positions[start:end] = FIRST_TEXT_POSITION + np.arange(len(ids))
            segments[start:end] = number
            for k, (token, weight) in enumerate(zip(answer + (EOS,), self.weights(answer))):
                index = 1 if not prompt and k == 0 else 1 + start + len(prompt) + k
                targets.append((index, token, weight))
            start, number = end, number + 1
        return tokens, positions, segments, targets

    def batch(self, scenes, seed):
        rng = random.Random(seed)
        rows = [self.row(scene, rng) for scene in scenes]
        tokens, positions, segments = (torch.from_numpy(np.stack([r[i] for r in rows]))
                                       for i in range(3))
        same = segments[:, :, None] == segments[:, None]
        mask = torch.where(same, 0.0, -1e9)
        mask = mask + torch.full((self.length, self.length), -1e9).triu(1)
        where = torch.tensor([(b, t[0]) for b, r in enumerate(rows) for t in r[3]])
        goal = torch.tensor([t[1] for r in rows for t in r[3]])
        weight = torch.tensor([t[2] for r in rows for t in r[3]])
        return tokens, positions, mask, where, goal, weight
