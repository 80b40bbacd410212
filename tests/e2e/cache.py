"""What one request leaves for another, over HTTP: cache.py COGWHEEL MODEL. Prints TAP."""
import concurrent.futures
import os
import signal
import sys
import tempfile

import pictures
import tap
from server import Server, picture_part, question

ASKED = 64
TEXTS = ['Describe this image.', 'What is in the image?', 'How many shapes are there?']


def ask(server, text, number, headers=None, **fields):
    """Answer and usage of a question about that picture."""
    body = question(text, picture_part(pictures.scene(number)), max_tokens=12, **fields)
    status, _, data = server.chat(body, headers)
    assert status == 200, data
    usage = data['usage']
    return data['choices'][0]['message']['content'], usage['prompt_tokens_details']


def cold(server, text, number):
    """The answer that owes nothing to others."""
    answer, details = ask(server, text, number, cache_prompt=False)
    assert details['cached_tokens'] == 0
    return answer


def a_second_question_finds_the_picture(binary, model):
    """BOS and the picture's tokens at least, and the answers are the cold ones."""
    with Server(binary, model) as server:
        expected = [cold(server, text, 1) for text in TEXTS]
        for turn in range(2):
            for i, text in enumerate(TEXTS):
                answer, details = ask(server, text, 1)
                assert answer == expected[i]
                if turn == 0 and i == 0:  # who wanted no cache has left nothing
                    assert details['cached_tokens'] == 0
                else:
                    assert details['cached_tokens'] >= 1 + details['image_tokens']
        code, left = server.stop(signal.SIGTERM)
        assert code == 0 and int(left['images_encoded']) == len(TEXTS) + 1, left


def salts_and_keys_share_nothing(binary, model):
    """The same picture and question, from others."""
    with tempfile.TemporaryDirectory() as folder:
        keys = os.path.join(folder, 'keys')
        with open(keys, 'w', encoding='ascii') as f:
            f.write('one-key-of-two\nthe-other-key\n')
        os.chmod(keys, 0o600)
        with Server(binary, model, '--api-key-file', keys) as server:
            seen = []
            for key in ('one-key-of-two', 'the-other-key'):
                for salt in ({}, {'cache_salt': 'a'}, {'cache_salt': 'b'}):
                    for _ in range(2):
                        _, details = ask(server, TEXTS[0], 2, {'Authorization': f'Bearer {key}'},
                                         **salt)
                        seen.append(details['cached_tokens'] > 0)
            assert seen == [False, True] * 6, seen
            _, left = server.stop(signal.SIGTERM)
            assert int(left['images_encoded']) == 6, left


def many_questions_about_a_new_picture_encode_it_once(binary, model):
    """All at once."""
    with Server(binary, model) as server:
        texts = [f'{TEXTS[i % 3]} {i}' for i in range(ASKED)]
        with concurrent.futures.ThreadPoolExecutor(ASKED) as pool:
            got = list(pool.map(lambda text: ask(server, text, 3), texts))
        n_cold = sum(details['cached_tokens'] == 0 for _, details in got)
        assert n_cold == 1, n_cold
        for text, (answer, _) in list(zip(texts, got))[::8]:
            assert answer == cold(server, text, 3)
        _, left = server.stop(signal.SIGTERM)
        assert int(left['images_encoded']) == 1 + ASKED // 8, left


def without_caches_nothing_is_found(binary, model):
    """Both options off."""
    with Server(binary, model, '--no-prefix-cache', '--image-cache', '0') as server:
        for _ in range(2):
            assert ask(server, TEXTS[0], 4)[1]['cached_tokens'] == 0
        _, left = server.stop(signal.SIGTERM)
        assert int(left['images_encoded']) == 2, left


if __name__ == '__main__':
    tap.need_model(sys.argv[2])
    sys.exit(tap.run([a_second_question_finds_the_picture, salts_and_keys_share_nothing,
                      many_questions_about_a_new_picture_encode_it_once,
                      without_caches_nothing_is_found], *sys.argv[1:3]))
