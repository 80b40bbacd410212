"""Uploaded pictures on the real server: files.py COGWHEEL MODEL. Prints TAP."""
import concurrent.futures
import json
import os
import re
import signal
import sys

import pictures
import tap
from server import Server, picture_part, question

TYPE = {'Content-Type': 'multipart/form-data; boundary=xyz'}
# room for one context: some twenty pictures push out what is not pinned
SMALL = ('--kv-cache', '6MiB', '--kv-block', '16', '--max-seqs', '4')
MANY = 30


def upload(server, number):
    """The id of a picture."""
    head = '--xyz\r\nContent-Disposition: form-data; name='
    body = (f'{head}"purpose"\r\n\r\nvision\r\n{head}"file"; filename="a.png"\r\n\r\n').encode()
    status, _, data = server.request('POST', '/v1/files',
                                     body + pictures.scene(number) + b'\r\n--xyz--\r\n', TYPE)
    assert status == 200, data
    return json.loads(data)['id']


def ask(server, part, text='Describe this image.'):
    """Answer, and tokens that were found computed."""
    status, _, data = server.chat(question(text, part, max_tokens=4))
    assert status == 200, data
    return (data['choices'][0]['message']['content'],
            data['usage']['prompt_tokens_details']['cached_tokens'])


def stored(file_id):
    """The part of a message."""
    return {'type': 'file', 'file': {'file_id': file_id}}


def metric(server, name):
    """A number of /metrics."""
    text = server.get('/metrics')[2].decode()
    return float(re.search(rf'^{re.escape(name)} (\S+)$', text, re.MULTILINE).group(1))


def push(server, first, n):
    """Asks about so many other pictures."""
    for number in range(first, first + n):
        ask(server, picture_part(pictures.scene(number)))


def answers_are_those_of_the_picture(binary, model):
    """As when it is sent each time; the second question finds its pages."""
    with Server(binary, model) as server:
        file_id = upload(server, 1)
        first, cached = ask(server, stored(file_id))
        assert cached == 0
        assert ask(server, picture_part(pictures.scene(1)))[0] == first
        again, cached = ask(server, stored(file_id), 'What is in the image?')
        assert cached > 60, cached
        assert ask(server, picture_part(pictures.scene(1)), 'What is in the image?')[0] == again
        _, left = server.stop(signal.SIGTERM)
        assert int(left['images_encoded']) == 1, left


def pins_outlive_other_pictures(binary, model):
    """What a picture without an upload loses, one with it keeps, until it is deleted."""
    with Server(binary, model, *SMALL) as server:
        file_id = upload(server, 1)
        ask(server, stored(file_id))
        ask(server, picture_part(pictures.scene(2)))
        assert metric(server, 'cogwheel_files_pinned_pages') > 3
        push(server, 10, MANY)
        assert ask(server, picture_part(pictures.scene(2)))[1] == 0
        assert ask(server, stored(file_id))[1] > 60
        status, _, _ = server.request('DELETE', f'/v1/files/{file_id}')
        assert status == 200
        push(server, 50, MANY)
        assert metric(server, 'cogwheel_files_pinned_pages') == 0
        assert ask(server, picture_part(pictures.scene(1)))[1] == 0


def pins_give_way_to_requests(binary, model):
    """Requests that need all pages at a time get them."""
    with Server(binary, model, *SMALL) as server:
        files = [upload(server, number) for number in range(4)]
        for file_id in files:
            ask(server, stored(file_id))
        pinned = metric(server, 'cogwheel_files_pinned_pages')
        pages = sum(metric(server, f'cogwheel_kv_pages{{state="{s}"}}')
                    for s in ('free', 'used', 'cached'))
        assert 0 < pinned <= pages / 2, (pinned, pages)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            bodies = [question(' '.join(['word'] * 100) + str(i), max_tokens=600, ignore_eos=True)
                      for i in range(4)]
            for status, _, data in pool.map(server.chat, bodies):
                assert status == 200 and data['usage']['completion_tokens'] == 600, data
        assert metric(server, 'cogwheel_files_pinned_pages') < pinned
        assert ask(server, stored(files[0]))[0]


def a_restart_forgets(binary, model):
    """An id of the process before is none."""
    with Server(binary, model) as server:
        file_id = upload(server, 1)
    with Server(binary, model) as server:
        status, _, data = server.chat(question('What?', stored(file_id)))
        assert status == 400 and data['error']['code'] == 'image_file_not_found', data


if __name__ == '__main__':
    tap.need_model(sys.argv[2])
    sys.exit(tap.run([answers_are_those_of_the_picture, pins_outlive_other_pictures,
                      pins_give_way_to_requests, a_restart_forgets],
                     os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])))
