"""Checkpoints made from others."""
import json
import os
import shutil
import struct

FILES = ('tokenizer.model', 'tokenizer_config.json', 'generation_config.json')


def grow(source, target, vocab):
    """Copies a checkpoint in one file, with that many words, all new ones zero: the answers stay
    the same, loading and every token take longer."""
    for name in FILES:
        shutil.copy(os.path.join(source, name), target)
    with open(os.path.join(source, 'config.json'), encoding='utf-8') as f:
        config = json.load(f)
    with open(os.path.join(source, 'model.safetensors'), 'rb') as f:
        size = struct.unpack('<Q', f.read(8))[0]
        header, data = json.loads(f.read(size)), f.read()
    pieces, end = [], 0
    for entry in header.values():
        if 'shape' not in entry:
            continue
        begin, stop = entry['data_offsets']
        length = stop - begin
        if entry['shape'][0] == config['vocab_size']:
            length = length // config['vocab_size'] * vocab
            entry['shape'][0] = vocab
        pieces.append((end, data[begin:stop]))
        entry['data_offsets'] = [end, end + length]
        end += length
    config['vocab_size'] = vocab
    with open(os.path.join(target, 'config.json'), 'w', encoding='utf-8') as f:
        json.dump(config, f)
    text = json.dumps(header).encode()
    with open(os.path.join(target, 'model.safetensors'), 'wb') as f:
        f.write(struct.pack('<Q', len(text)) + text)
        for offset, piece in pieces:
            f.seek(8 + len(text) + offset)
            f.write(piece)
        f.truncate(8 + len(text) + end)
