#!/usr/bin/python3
"""Writes the pictures that test_image.c decodes, and the pixels they must give.

Needs Pillow built on the system's libjpeg-turbo and libwebp (Debian: python3-pil). For every
picture NAME.EXT there is NAME.EXT.ppm, what the default options show; where it differs, also
NAME.EXT.drop.ppm (alpha dropped) and NAME.EXT.stored.ppm (Exif ignored). JPEG and WebP pixels are
Pillow's. PNG and GIF files are written here sample by sample, so their pixels are known without a
decoder; where Pillow follows the same rules, it is asked as well. Files named plain and twin have
no pixels beside them.
"""
import io
import os
import random
import struct
import zlib

from PIL import Image, ImageOps

HERE = os.path.dirname(os.path.abspath(__file__))
W, H = 29, 17


def write(name, data):
    with open(os.path.join(HERE, name), "wb") as f:
        f.write(data)


def ppm(name, width, height, rgb):
    assert len(rgb) == width * height * 3
    write(name + ".ppm", b"P6 %d %d 255\n" % (width, height) + bytes(rgb))


def photo(width=W, height=H, seed=1):
    """Gradients with some noise: every channel different, no symmetry."""
    rnd = random.Random(seed)
    im = Image.new("RGB", (width, height))
    im.putdata([(int(255 * x / width), int(255 * y / height),
                 (x * 9 + y * 5 + rnd.randrange(60)) % 256)
                for y in range(height) for x in range(width)])
    return im


def on_white(im):
    rgba = im.convert("RGBA")
    out = Image.new("RGB", im.size, (255, 255, 255))
    out.paste(rgba, mask=rgba.getchannel("A"))
    return out


def expect(name, data):
    """The file and Pillow's pixels of it."""
    write(name, data)
    im = Image.open(io.BytesIO(data))
    im.load()
    stored = im.convert("RGB")
    shown = ImageOps.exif_transpose(im)
    if "A" in im.getbands():
        ppm(name + ".drop", *shown.size, shown.convert("RGB").tobytes())
        shown = on_white(shown)
    if im.getexif().get(0x0112, 1) != 1:
        ppm(name + ".stored", *stored.size, stored.tobytes())
    ppm(name, *shown.size, shown.convert("RGB").tobytes())


def saved(im, fmt, **options):
    out = io.BytesIO()
    im.save(out, fmt, **options)
    return out.getvalue()


# ------------------------------------------------------------------ Exif

def exif(orientation, big=False, before=1):
    """A TIFF block with other tags around the orientation."""
    e = ">" if big else "<"
    entries = [(0x010F, 2, 4, b"abc\0")] * before
    entries.append((0x0112, 3, 1, struct.pack(e + "HH", orientation, 0)))
    entries.append((0x0131, 2, 4, b"xyz\0"))
    block = (b"MM\0*" if big else b"II*\0") + struct.pack(e + "IH", 8, len(entries))
    for tag, kind, count, value in entries:
        block += struct.pack(e + "HHI", tag, kind, count) + value
    return block + struct.pack(e + "I", 0)


# ------------------------------------------------------------------ JPEG

def strip_segment(data, marker):
    at = data.index(marker)
    size = struct.unpack(">H", data[at + 2:at + 4])[0]
    return data[:at] + data[at + 2 + size:]


def make_jpeg():
    im = photo()
    for label, sub in (("420", 2), ("422", 1), ("444", 0)):
        expect("baseline_%s.jpg" % label, saved(im, "JPEG", quality=85, subsampling=sub))
        expect("progressive_%s.jpg" % label,
               saved(im, "JPEG", quality=85, subsampling=sub, progressive=True))
    expect("grey.jpg", saved(im.convert("L"), "JPEG", quality=85))
    expect("grey_progressive.jpg", saved(im.convert("L"), "JPEG", quality=85, progressive=True))
    expect("pixel.jpg", saved(photo(1, 1), "JPEG"))
    write("plain.jpg", saved(Image.new("RGB", (400, 300), (200, 40, 90)), "JPEG", quality=30))

    inks = Image.merge("CMYK", [c.point(lambda v, k=k: (v * 3 + k * 40) % 256)
                                for k, c in enumerate((*im.split(), im.getchannel("R")))])
    data = saved(inks, "JPEG", quality=90)
    expect("cmyk.jpg", data)
    expect("cmyk_no_adobe.jpg", strip_segment(data, b"\xff\xee"))
    at = data.index(b"Adobe") + 11
    expect("ycck.jpg", data[:at] + b"\x02" + data[at + 1:])
    data = saved(im, "JPEG", quality=85, subsampling=0)
    adobe = b"\xff\xee" + struct.pack(">H", 14) + b"Adobe" + struct.pack(">HHHB", 100, 0, 0, 0)
    expect("rgb.jpg", data[:2] + adobe + strip_segment(data, b"\xff\xe0")[2:])
    expect("icc.jpg", saved(im, "JPEG", quality=70, icc_profile=b"not a profile" * 9))
    for k in range(1, 9):
        expect("exif_%d.jpg" % k, saved(photo(11, 6), "JPEG", quality=60,
                                        exif=b"Exif\0\0" + exif(k, big=k % 2 == 0)))


# ------------------------------------------------------------------ PNG

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2),
         (0, 1, 1, 2))


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pack_line(samples, depth):
    if depth == 16:
        return b"".join(struct.pack(">H", s) for s in samples)
    out, bits, n = bytearray(), 0, 0
    for s in samples:
        bits, n = bits << depth | s, n + depth
        if n == 8:
            out.append(bits)
            bits = n = 0
    if n:
        out.append(bits << (8 - n))
    return bytes(out)


def png_bytes(width, height, depth, colour, pixels, interlaced, before=b"", middle=b""):
    """pixels[y][x] is a tuple of samples. Every filter type is used where it is simple."""
    def lines(xs, ys):
        out = b""
        for k, y in enumerate(ys):
            line = pack_line([s for x in xs for s in pixels[y][x]], depth)
            bpp = max(1, depth * CHANNELS[colour] // 8)
            if k % 2:  # filter "Sub"
                line = b"\1" + bytes((line[i] - (line[i - bpp] if i >= bpp else 0)) & 255
                                     for i in range(len(line)))
            else:
                line = b"\0" + line
            out += line
        return out

    raw = b""
    if interlaced:
        for x0, y0, dx, dy in ADAM7:
            if x0 < width and y0 < height:
                raw += lines(range(x0, width, dx), range(y0, height, dy))
    else:
        raw = lines(range(width), range(height))
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    data = zlib.compress(raw, 9)
    half = len(data) // 2
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + middle +
            chunk(b"IDAT", data[:half]) + chunk(b"IDAT", data[half:]) + chunk(b"IEND"))


def to8(s, depth):
    return s >> 8 if depth == 16 else s * 255 // ((1 << depth) - 1)


def make_png_kind(colour, depth, interlaced, trns, rnd):
    width, height = 13, 11
    top = (1 << depth) - 1
    n = CHANNELS[colour]
    pixels = [[tuple(rnd.randrange(top + 1) for _ in range(n)) for _ in range(width)]
              for _ in range(height)]
    if depth == 16:  # samples that share a high byte with the transparent one are not it
        pixels[0][1] = tuple(s ^ 1 for s in pixels[0][0])
    key = pixels[0][0]
    palette = [tuple(rnd.randrange(256) for _ in range(3)) for _ in range(top + 1)]
    alphas = [rnd.choice((0, 255, rnd.randrange(256))) for _ in palette][:max(1, top // 2)]
    before = b""
    if colour == 3:
        before += chunk(b"PLTE", bytes(v for c in palette for v in c))
        if trns:
            before += chunk(b"tRNS", bytes(alphas))
    elif trns:
        before += chunk(b"tRNS", b"".join(struct.pack(">H", s) for s in key))

    def rgba(p):
        if colour == 3:
            return (*palette[p[0]], alphas[p[0]] if trns and p[0] < len(alphas) else 255)
        v = [to8(s, depth) for s in p]
        if colour in (0, 4):
            v = [v[0]] * 3 + v[1:]
        if len(v) == 3:
            v.append(0 if trns and p == key else 255)
        return tuple(v)

    kind = {0: "grey", 2: "rgb", 3: "palette", 4: "grey_alpha", 6: "rgba"}[colour]
    name = "%s%d%s%s.png" % (kind, depth, "_trns" if trns else "",
                             "_interlaced" if interlaced else "")
    data = png_bytes(width, height, depth, colour, pixels, interlaced, before)
    im = Image.new("RGBA", (width, height))
    im.putdata([rgba(p) for row in pixels for p in row])
    write(name, data)
    white = on_white(im)
    ppm(name, width, height, white.tobytes())
    if trns or colour in (4, 6):
        ppm(name + ".drop", width, height, im.convert("RGB").tobytes())
    theirs = Image.open(io.BytesIO(data))
    if theirs.mode[0] != "I":  # Pillow clips 16-bit grey instead of scaling it
        assert theirs.convert("RGB").tobytes() == im.convert("RGB").tobytes(), name
        if not (depth == 16 and trns):  # Pillow compares 8 of the 16 bits
            assert on_white(theirs).tobytes() == white.tobytes(), name


def make_png():
    rnd = random.Random(2)
    for interlaced in (0, 1):
        for colour, depths in ((0, (1, 2, 4, 8, 16)), (2, (8, 16)), (3, (1, 2, 4, 8)),
                               (4, (8, 16)), (6, (8, 16))):
            for depth in depths:
                make_png_kind(colour, depth, interlaced, False, rnd)
    for colour, depth in ((0, 2), (0, 8), (0, 16), (2, 8), (2, 16), (3, 4), (3, 8)):
        make_png_kind(colour, depth, 0, True, rnd)
    expect("pixel.png", saved(photo(1, 1), "PNG"))
    write("plain.png", saved(Image.new("RGB", (400, 300), (200, 40, 90)), "PNG", optimize=True))
    small = photo(11, 6)
    rows = [[small.getpixel((x, y)) for x in range(11)] for y in range(6)]
    expect("exif_6.png", png_bytes(11, 6, 8, 2, rows, 0, chunk(b"eXIf", exif(6, big=True))))
    extra = (chunk(b"iCCP", b"x\0\0" + zlib.compress(b"not a profile")) +
             chunk(b"tEXt", b"a\0b") + chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(2000))) +
             chunk(b"gAMA", struct.pack(">I", 100000)) + chunk(b"prVt", b"private"))
    expect("chunks.png", png_bytes(11, 6, 8, 2, rows, 0, extra))
    frame = struct.pack(">IIIIIHHBB", 0, 11, 6, 0, 0, 1, 10, 0, 0)
    apng = chunk(b"acTL", struct.pack(">II", 1, 0)) + chunk(b"fcTL", frame)
    expect("animated.png", png_bytes(11, 6, 8, 2, rows, 0, apng))
    # Two pictures of one run of bytes; only the shape tells them apart.
    run = [((k * 7) % 251, (k * 3) % 256, k % 256) for k in range(4500)]
    for w, h in ((30, 150), (150, 30)):
        rows = [run[y * w:(y + 1) * w] for y in range(h)]
        write("twin_%dx%d.png" % (w, h), png_bytes(w, h, 8, 2, rows, 0))


# ------------------------------------------------------------------ WebP

def riff_chunk(kind, data):
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) & 1)


def u24(v):
    return struct.pack("<I", v)[:3]


def riff(*chunks):
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def vp8x(flags, width, height):
    return riff_chunk(b"VP8X", bytes((flags, 0, 0, 0)) + u24(width - 1) + u24(height - 1))


def alpha_photo(width=W, height=H):
    im = photo(width, height, 5).convert("RGBA")
    im.putalpha(Image.frombytes("L", im.size, bytes((x * 37 + y * 11) % 256
                                                    for y in range(height) for x in range(width))))
    return im


def make_webp():
    im = photo()
    see_through = alpha_photo()
    expect("lossy.webp", saved(im, "WEBP", quality=80))
    expect("lossless.webp", saved(im, "WEBP", lossless=True))
    expect("lossy_alpha.webp", saved(see_through, "WEBP", quality=80, exact=True))
    expect("lossless_alpha.webp", saved(see_through, "WEBP", lossless=True, exact=True))
    expect("pixel.webp", saved(photo(1, 1), "WEBP", lossless=True))
    write("plain.webp", saved(Image.new("RGB", (400, 300), (200, 40, 90)), "WEBP", lossless=True))
    expect("icc.webp", saved(im, "WEBP", quality=50, icc_profile=b"not a profile"))
    expect("exif_8.webp", saved(photo(11, 6), "WEBP", lossless=True, exif=exif(8)))
    frames = [photo(seed=s) for s in (6, 7, 8)]
    for label, options in (("lossy", {"quality": 70}), ("lossless", {"lossless": True})):
        expect("animated_%s.webp" % label, saved(frames[0], "WEBP", save_all=True, duration=50,
                                                 append_images=frames[1:], **options))
    expect("animated_alpha.webp", saved(see_through, "WEBP", save_all=True, quality=60,
                                        append_images=frames[1:]))

    # A first frame that does not fill its canvas.
    small = alpha_photo(11, 6)
    inner = saved(small, "WEBP", lossless=True, exact=True)[12:]
    anmf = riff_chunk(b"ANMF", u24(2) + u24(3) + u24(10) + u24(5) + u24(40) + b"\2" + inner)
    data = riff(vp8x(0x12, 20, 16), riff_chunk(b"ANIM", bytes(6)), anmf, anmf)
    write("animated_offset.webp", data)
    canvas = Image.new("RGBA", (20, 16), (0, 0, 0, 0))
    canvas.paste(small, (4, 6))
    assert Image.open(io.BytesIO(data)).tobytes() == canvas.tobytes()
    ppm("animated_offset.webp", 20, 16, on_white(canvas).tobytes())
    ppm("animated_offset.webp.drop", 20, 16, canvas.convert("RGB").tobytes())


# ------------------------------------------------------------------ GIF

def lzw(indexes):
    """9-bit codes only: a clear code often enough that the width never grows."""
    codes = []
    for k, v in enumerate(indexes):
        if k % 200 == 0:
            codes.append(256)
        codes.append(v)
    codes.append(257)
    bits = n = 0
    out = bytearray()
    for c in codes:
        bits |= c << n
        n += 9
        while n >= 8:
            out.append(bits & 255)
            bits >>= 8
            n -= 8
    if n:
        out.append(bits)
    blocks = b"".join(bytes((len(out[k:k + 255]),)) + out[k:k + 255]
                      for k in range(0, len(out), 255))
    return b"\x08" + blocks + b"\0"


def gif_frame(left, top, width, height, indexes, palette=None, transparent=None, interlaced=False):
    rows = range(height)
    if interlaced:
        rows = [*range(0, height, 8), *range(4, height, 8), *range(2, height, 4),
                *range(1, height, 2)]
    out = b""
    if transparent is not None:
        out += b"\x21\xf9\x04\x01\x0a\0" + bytes((transparent,)) + b"\0"
    flags = 0x40 if interlaced else 0
    if palette:
        flags |= 0x80 | (len(palette).bit_length() - 2)
    out += b"\x2c" + struct.pack("<HHHHB", left, top, width, height, flags)
    if palette:
        out += bytes(v for c in palette for v in c)
    return out + lzw([v for y in rows for v in indexes[y * width:(y + 1) * width]])


def gif(width, height, palette, *parts):
    flags = 0x80 | (len(palette).bit_length() - 2) if palette else 0
    out = b"GIF89a" + struct.pack("<HHBBB", width, height, flags, 0, 0)
    if palette:
        out += bytes(v for c in palette for v in c)
    return out + b"".join(parts) + b"\x3b"


def make_gif():
    rnd = random.Random(4)
    palette = [tuple(rnd.randrange(256) for _ in range(3)) for _ in range(16)]
    other = [tuple(rnd.randrange(256) for _ in range(3)) for _ in range(16)]
    width, height = 21, 19
    comment = b"\x21\xfe\x05hello\0"

    def make(name, screen, palette, left, top, w, h, local=None, transparent=None, **options):
        indexes = [rnd.randrange(16) for _ in range(w * h)]
        first = gif_frame(left, top, w, h, indexes, local, transparent, **options)
        second = gif_frame(0, 0, w, h, indexes[::-1])
        data = gif(*screen, palette, comment, first, second)
        write(name, data)
        colours = local or palette or [(k, k, k) for k in range(16)]
        im = Image.new("RGBA", (max(screen[0], left + w), max(screen[1], top + h)),
                       (*colours[transparent or 0], 0))
        frame = Image.new("RGBA", (w, h))
        frame.putdata([(*colours[v], 0 if v == transparent else 255) for v in indexes])
        im.paste(frame, (left, top))
        ppm(name, *im.size, on_white(im).tobytes())
        if im.getextrema()[3] != (255, 255):
            ppm(name + ".drop", *im.size, im.convert("RGB").tobytes())
        theirs = Image.open(io.BytesIO(data))
        if theirs.size == im.size:
            assert theirs.convert("RGB").tobytes() == im.convert("RGB").tobytes(), name

    make("animated.gif", (width, height), palette, 0, 0, width, height)
    make("local.gif", (width, height), palette, 0, 0, width, height, other)
    make("interlaced.gif", (width, height), palette, 0, 0, width, height, interlaced=True)
    make("transparent.gif", (width, height), palette, 0, 0, width, height, transparent=3)
    make("offset.gif", (width, height), palette, 3, 4, 9, 8)
    make("offset_transparent.gif", (width, height), palette, 3, 4, 9, 8, transparent=3)
    make("beyond.gif", (10, 10), palette, 5, 7, 9, 8)
    make("no_palette.gif", (width, height), None, 0, 0, width, height)
    expect("pixel.gif", saved(Image.new("P", (1, 1)), "GIF"))
    write("plain.gif", saved(Image.new("RGB", (400, 300), (200, 40, 90)).quantize(2), "GIF"))


if __name__ == "__main__":
    make_jpeg()
    make_png()
    make_webp()
    make_gif()
