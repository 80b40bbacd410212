"""Model folders in Hugging Face form: writing the trained weights, reading them back."""

import json
import os
import shutil

import numpy as np
import torch

import safetensors_io
from demo_model import BOS, CONFIG, EOS, CogVLM
from demo_tokens import TOKENIZER_CONFIG, Tokenizer

GENERATION_CONFIG = {"bos_token_id": BOS, "eos_token_id": EOS, "pad_token_id": 0,
                     "do_sample": False, "max_length": 2048}


def write_json(path, value):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(value, out, indent=2, ensure_ascii=False)
        out.write("\n")


def export(model, tokenizer_path, folder):
    """Write the model with its weights rounded to bfloat16."""
    os.makedirs(folder, exist_ok=True)
    arrays = {}
    for name, tensor in sorted(model.state_dict().items()):
        dtype = "F32" if name.endswith("inv_freq") else "BF16"
        arrays[name] = (dtype, tensor.detach().numpy())
    path = os.path.join(folder, safetensors_io.SINGLE_FILE)
    safetensors_io.write_arrays(path + ".part", arrays)
    os.replace(path + ".part", path)
    shutil.copyfile(tokenizer_path, os.path.join(folder, "tokenizer.model"))
    write_json(os.path.join(folder, "config.json"), CONFIG)
    write_json(os.path.join(folder, "generation_config.json"), GENERATION_CONFIG)
    write_json(os.path.join(folder, "tokenizer_config.json"), TOKENIZER_CONFIG)


def load(folder):
    """The exported model in float32 and its tokenizer."""
    model = CogVLM()
    stored = safetensors_io.File(os.path.join(folder, safetensors_io.SINGLE_FILE))
    state = {name: torch.from_numpy(np.array(stored.read(name))) for name in stored.names()}
    model.load_state_dict(state)
    return model.eval(), Tokenizer(os.path.join(folder, "tokenizer.model"))
