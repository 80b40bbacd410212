"""Pictures from numbers, with nothing but the standard library."""
import random
import struct
import zlib

COLOURS = ((220, 30, 30), (30, 160, 60), (40, 70, 220), (240, 220, 40), (240, 130, 30),
           (150, 50, 180), (20, 20, 20), (250, 250, 250), (120, 80, 40), (250, 150, 190),
           (40, 200, 210), (128, 128, 128))


def chunk(kind, data):
    """One chunk of a PNG file."""
    body = kind + data
    return struct.pack('>I', len(data)) + body + struct.pack('>I', zlib.crc32(body))


def png(width, height, rgb):
    """An RGB file, 8 bits."""
    rows = b''.join(b'\0' + rgb[y * width * 3:(y + 1) * width * 3] for y in range(height))
    size = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', size)
            + chunk(b'IDAT', zlib.compress(rows, 1)) + chunk(b'IEND', b''))


def palette_png(width, height, indices, palette):
    """A file whose pixels are numbers into a palette of (r, g, b)."""
    rows = b''.join(b'\0' + indices[y * width:(y + 1) * width] for y in range(height))
    size = struct.pack('>IIBBBBB', width, height, 8, 3, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', size)
            + chunk(b'PLTE', b''.join(bytes(colour) for colour in palette))
            + chunk(b'IDAT', zlib.compress(rows, 1)) + chunk(b'IEND', b''))


def png_header(width, height):
    """A PNG that has a size and no pixels."""
    size = struct.pack('>IIBBBBB', width, height, 8, 2, 0, 0, 0)
    return (b'\x89PNG\r\n\x1a\n' + chunk(b'IHDR', size)
            + chunk(b'IDAT', zlib.compress(b'\0' * 100)) + chunk(b'IEND', b''))


def gif(width, height):
    """One picture of one colour, good for 1 x 1."""
    return (b'GIF89a' + struct.pack('<HH', width, height) + b'\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0' +
            struct.pack('<HH', width, height) + b'\0\2\2D\1\0;')


def scene(number):
    """One of endlessly many pictures: a few shapes and stripes on a ground of another colour."""
    rng = random.Random(number)
    width, height = rng.randint(20, 160), rng.randint(20, 160)
    colours = rng.sample(COLOURS, 4)
    bend = rng.randint(3, 40)
    rgb = bytearray()
    shapes = [(rng.random(), rng.random(), rng.uniform(0.05, 0.4), rng.random() < 0.5)
              for _ in range(3)]
    for y in range(height):
        for x in range(width):
            colour = colours[0]
            if (x * 7 + y * number) % bend == 0:
                colour = colours[1]
            for shape, (cx, cy, size, is_round) in enumerate(shapes):
                dx, dy = abs(x / width - cx), abs(y / height - cy)
                if (dx * dx + dy * dy < size * size) if is_round else max(dx, dy) < size:
                    colour = colours[1 + shape]
            rgb += bytes(colour)
    return png(width, height, bytes(rgb))
