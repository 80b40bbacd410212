"""The mistakes that are easiest to make with this model, each as an edit that makes it.

A row: what goes wrong, the edits (file, text, text with the mistake), the tests that may notice:
unit tests by name, golden tests as (fixture, mode). A file is found by its name wherever it lies.
"""

ALL_GOLDEN = [('hd64-bf16', 'bf16'), ('hd128-f32', 'f32'), ('deep-bf16', 'bf16')]
TANH = '''static void tanh_gelu(cog_backend *be, const cog_act *a, int row, int n)
{
    for (int i = 0; i < n; i++) {
        float u;
        be->kern.to_float(&u, cog_cpu_at(be, a, row, i), 1);
        u = 0.5f * u * (1 + tanhf(0.7978845608f * (u + 0.044715f * u * u * u)));
        be->kern.from_float(cog_cpu_at(be, a, row, i), &u, 1);
    }
}

'''
RESIZE = 'cog_resize_bicubic(rgb, side, side, frame.rgb, frame.width, frame.height);'
LETTERBOX = '''int fw = frame.width, fh = frame.height;
    int w = fw >= fh ? side : side * fw / fh > 0 ? side * fw / fh : 1;
    int h = fh >= fw ? side : side * fh / fw > 0 ? side * fh / fw : 1;
    uint8_t *fit = cog_alloc((size_t)w * h, 3);
    cog_resize_bicubic(fit, w, h, frame.rgb, fw, fh);
    memset(rgb, 128, (size_t)side * side * 3);
    for (int y = 0; y < h; y++)
        memcpy(rgb + ((size_t)(y + (side - h) / 2) * side + (side - w) / 2) * 3,
               fit + (size_t)y * w * 3, (size_t)w * 3);
    cog_free(fit);'''
CROP = '''int fw = frame.width, fh = frame.height, s = fw < fh ? fw : fh;
    uint8_t *crop = cog_alloc((size_t)s * s, 3);
    for (int y = 0; y < s; y++)
        memcpy(crop + (size_t)y * s * 3,
               frame.rgb + ((size_t)(y + (fh - s) / 2) * fw + (fw - s) / 2) * 3, (size_t)s * 3);
    cog_resize_bicubic(rgb, side, side, crop, s, s);
    cog_free(crop);'''
ONE_PASS = '''    cog_resize_taps t;
    cog_resize_taps a, b;
    cog_resize_taps_init(&a, src_width, dst_width);
    cog_resize_taps_init(&b, src_height, dst_height);
    for (int y = 0; y < dst_height; y++) {
        for (int i = 0; i < dst_width * CHANNELS; i++) {
            int x = i / CHANNELS, c = i % CHANNELS;
            double sum = 0;
            for (int v = 0; v < b.n[y]; v++)
                for (int u = 0; u < a.n[x]; u++)
                    sum += (double)b.weight[(size_t)y * b.max + v] *
                           a.weight[(size_t)x * a.max + u] *
                           src[(size_t)(b.first[y] + v) * src_row + (a.first[x] + u) * CHANNELS + c];
            sum = floor(sum / ((double)(1 << FRACTION_BITS) * (1 << FRACTION_BITS)) + 0.5);
            dst[(size_t)y * dst_row + i] = (uint8_t)fmin(fmax(sum, 0), 255);
        }
    }
    cog_resize_taps_fini(&a);
    cog_resize_taps_fini(&b);
    if (dst)
        return;
'''
PRE_NORM = '''for (int r = 0; r < tokens; r++)
        be->kern.layernorm(cog_cpu_at(be, be->vit_mixed, r, 0), cog_cpu_at(be, x, row + r, 0),
                           w->norm1->vector, w->norm1_bias->vector, x->cols,
                           be->model.vision.eps);
    cog_gemm pre = qkv;
    pre.a = be->vit_mixed->data;
    pre.lda = be->vit_mixed->ld;
    cog_cpu_gemm(be, &pre, 1);'''
FINAL_NORM = '''static float one[65536], zero[65536];
    for (int i = 0; i < x->cols; i++)
        one[i] = 1;
    for (int r = row; r < row + rows; r++)
        be->kern.layernorm(cog_cpu_at(be, x, r, 0), cog_cpu_at(be, x, r, 0), one, zero, x->cols,
                           be->model.vision.eps);
    cog_cpu_gemm(be, &proj, 1);'''
ADD_NORM = '''        be->kern.layernorm(row, cog_cpu_at(be, j->from, j->from_first + r, 0), j->w->vector,
                           j->b->vector, j->act->cols, j->eps);
        be->kern.add(x, x, row, j->act->cols);'''
NORM_OF_SUM = '''        be->kern.add(row, x, cog_cpu_at(be, j->from, j->from_first + r, 0), j->act->cols);
        be->kern.layernorm(x, row, j->w->vector, j->b->vector, j->act->cols, j->eps);'''
ADD_ONLY = '''        (void)row;
        be->kern.add(x, x, cog_cpu_at(be, j->from, j->from_first + r, 0), j->act->cols);'''
NO_DUMMY = '''std::vector<int> lead;
        std::string odd("\\1");
        sp->processor.Encode(odd, &lead).IgnoreError();
        odd.append(text, len);
        bool ok = sp->processor.Encode(odd, &found).ok();
        found.erase(found.begin(), found.begin() + static_cast<long>(lead.size()));
        if (!ok ||'''
BOS = '''p.tokens[0] = m->bos;
    for (int i = 1; i <= n_image; i++)
        p.tokens[i] = m->pad;'''
BOS_BEHIND = '''p.tokens[n_image] = m->bos;
    for (int i = 0; i < n_image; i++)
        p.tokens[i] = m->pad;'''
HISTORY = '''if (tmpl == COG_TEMPLATE_BASE) {
        for (int i = 0; i + 1 < n_turns; i++) {
            cog_buf_add(out, turns[i].query, turns[i].query_len);
            cog_buf_puts(out, " ");
            cog_buf_add(out, turns[i].answer, turns[i].answer_len);
            cog_buf_puts(out, "\\n");
        }'''


def in_prompt(old, new):
    """An edit of the templates."""
    return [('prompt.c', old, new)]


TRAPS = [
    # which expert
    ('1: eoi goes through the vision expert',
     [('prompt.h', 'i < image_tokens; /* boi', 'i <= image_tokens; /* boi')],
     ['prompt', 'engine', *ALL_GOLDEN]),
    ('1: boi goes through the language expert',
     [('prompt.h', 'return has_image && i >= 1 &&', 'return has_image && i >= 2 &&')],
     ['prompt', *ALL_GOLDEN]),
    ('1: the expert mask is made per chunk, its last row is language',
     [('batch.c', 'if (cog_prompt_is_vision(i, has_image, b->image_tokens) != vision)',
       'if ((cog_prompt_is_vision(i, has_image, b->image_tokens) &&\n'
       '             i + 1 < q->sched.n_computed + q->sched.n_rows) != vision)')],
     ['engine']),
    ('1: the experts are swapped',
     [('decoder.c', '.w = w[e],', '.w = w[1 - e],')], ['cpu_traps', *ALL_GOLDEN]),
    # positions
    ('2: patches have positions one after the other',
     [('prompt.h', 'if (!has_image || i <= 1)', 'if (!has_image || i >= 0)')],
     ['prompt', *ALL_GOLDEN]),
    ('2: text counts on from the slot',
     [('prompt.h', 'return i - image_tokens + 3;', 'return i;')], ['prompt', *ALL_GOLDEN]),
    ('2: the rotary position is the slot',
     [('decoder.c', '(size_t)b->position[r] * (size_t)(m->head_dim / 2)',
       '(size_t)b->slot[r] * (size_t)(m->head_dim / 2)')], ['cpu_traps', *ALL_GOLDEN]),
    # rotary tables
    ('3: tables in f32 although the model runs in bf16',
     [('rope.c', 'if (mode == COG_BF16) {', 'if (mode == COG_BF16 && n_freq < 0) {')],
     ['rope', *ALL_GOLDEN]),
    ('3: positions are not rounded to bf16',
     [('rope.c', 'float t = cog_round_bf16((float)p);', 'float t = (float)p;')],
     ['rope', *ALL_GOLDEN]),
    ('3: the angle is not rounded to bf16',
     [('rope.c', 'cog_round_bf16(t * cog_round_bf16(inv_freq[i]))',
       't * cog_round_bf16(inv_freq[i])')], ['rope', *ALL_GOLDEN]),
    ('3: cosine and sine are not rounded to bf16',
     [('rope.c', 'cos_out[at] = cog_round_bf16(cosf(angle));', 'cos_out[at] = cosf(angle);'),
      ('rope.c', 'sin_out[at] = cog_round_bf16(sinf(angle));', 'sin_out[at] = sinf(angle);')],
     ['rope', *ALL_GOLDEN]),
    ('3: the stored inv_freq is not used',
     [('model.c', 'if (rc == 0 && n_stored)\n', 'if (rc == 0 && n_stored < 0)\n')],
     ['model', *ALL_GOLDEN]),
    # vision tower
    ('4: the tower has norms before its sublayers',
     [('vision.c', 'cog_cpu_gemm(be, &qkv, 1);', PRE_NORM), ('vision.c', ADD_NORM, ADD_ONLY)],
     ['cpu_traps', *ALL_GOLDEN]),
    ('4: the tower norms the sum',
     [('vision.c', ADD_NORM, NORM_OF_SUM)], ['cpu_traps', *ALL_GOLDEN]),
    ('4: the tower has no norms behind its sublayers',
     [('vision.c', ADD_NORM, ADD_ONLY)], ['cpu_traps', *ALL_GOLDEN]),
    ('4: the tower has a norm at its end',
     [('vision.c', 'cog_cpu_gemm(be, &proj, 1);', FINAL_NORM)],
     ['cpu_traps', *ALL_GOLDEN]),
    ('4: the last layer of the tower is left out',
     [('forward.c', 'int n_layers = m->cfg.vision.layers;',
       'int n_layers = m->cfg.vision.layers - 1;'),
      ('forward.c', 'assert(n > 0 && f->next_layer == m->cfg.vision.layers);',
       'assert(n > 0);')], [*ALL_GOLDEN]),
    ('4: cls is taken to be the last row',
     [('vision.c', 'i * tokens + 1 + first, w);', 'i * tokens + first, w);')],
     ['cpu_traps', *ALL_GOLDEN]),
    ('4: cls has the last position row, patches begin at row 0',
     [('vision.c', 'cog_cpu_weight_row(be, w->position, 0)',
       'cog_cpu_weight_row(be, w->position, be->model.patches)'),
      ('vision.c', '.from_first = 1 + first,', '.from_first = first,')],
     ['cpu_traps', *ALL_GOLDEN]),
    ('4: the tower is causal',
     [('vision.c', 'slots[n] = tokens;', 'slots[n] = first + n + 1;')],
     ['cpu_traps', *ALL_GOLDEN]),
    # epsilons
    ('5: the tower norms with 1e-5',
     [('vision.c', '.eps = be->model.vision.eps };', '.eps = 1e-5f };')],
     ['cpu_traps', ('small-values-f32', 'f32')]),
    ('5: the adapter norms with 1e-6',
     [('backend.h', '#define COG_ADAPTER_EPS 1e-5f', '#define COG_ADAPTER_EPS 1e-6f')],
     ['cpu_traps', ('small-values-f32', 'f32')]),
    ('5: the decoder norms with 1e-6',
     [('decoder.c', 'be->model.hidden, be->model.rms_eps);', 'be->model.hidden, 1e-6f);')],
     ['cpu_traps', ('small-values-f32', 'f32')]),
    ("5: the class's default epsilon beats the file",
     [('model_config.c', 'rc = read_epsilon(&c->rms_eps, root, CONFIG, "rms_norm_eps", err);',
       'rc = read_epsilon(&c->rms_eps, root, CONFIG, "rms_norm_eps", err), c->rms_eps = 1e-6f;')],
     ['model_config', ('small-values-f32', 'f32')]),
    # GELU
    ('6: tanh GELU in the tower',
     [('vision.c', 'static void gelu_rows(', TANH + 'static void gelu_rows('),
      ('vision.c', 'be->kern.gelu(u, u, be->model.vision.inter);',
       '(void)u, tanh_gelu(be, j->act, r, be->model.vision.inter);')],
     ['cpu_traps', *ALL_GOLDEN]),
    ('6: tanh GELU in the adapter',
     [('vision.c', '/* norm = gelu(LN(norm)) */', TANH),
      ('vision.c', 'be->kern.gelu(u, u, be->model.hidden);',
       'tanh_gelu(be, be->norm, r, be->model.hidden);')], ['cpu_traps', *ALL_GOLDEN]),
    # pictures
    ('8: letterbox', [('image.c', RESIZE, LETTERBOX)], ['image', *ALL_GOLDEN]),
    ('8: centre crop', [('image.c', RESIZE, CROP)], ['image', *ALL_GOLDEN]),
    ('8: bicubic with a = -0.75',
     [('resize.c', 'const double a = -0.5;', 'const double a = -0.75;')], ['resize']),
    ('8: no antialiasing',
     [('resize.c', 'double stretch = fmax(scale, 1);', 'double stretch = 1;')], ['resize']),
    ('8: rounded once, not after each pass',
     [('resize.c', '    cog_resize_taps t;\n', ONE_PASS)], ['resize']),
    ('8: turned upright although the reference does not',
     [('image.c', 'if (!opt->ignore_exif)', 'if (opt)')], ['image', 'exif']),
    ('8: pixels in the order of the file, not by channel',
     [('vision.c', '(c * size + y) * size)', 'r < 0 ? 0 : (y * 3 + c) * size)')],
     ['cpu_traps', *ALL_GOLDEN]),
    # prompts
    ("9: a space behind 'Answer:'", in_prompt('" Answer:"', '" Answer: "'),
     ['prompt', *ALL_GOLDEN]),
    ("9: no space behind 'Question:'", in_prompt('"Question: "', '"Question:"'),
     ['prompt', *ALL_GOLDEN]),
    ("9: no space before 'Answer:'", in_prompt('" Answer:"', '"Answer:"'),
     ['prompt', *ALL_GOLDEN]),
    ('9: a space between turns', in_prompt('cog_buf_puts(out, "\\n");', 'cog_buf_puts(out, " ");'),
     ['prompt', *ALL_GOLDEN]),
    ('9: a newline at the end',
     in_prompt('        if (i == n_turns - 1)\n            break;',
               '        if (i == n_turns - 1) {\n            cog_buf_puts(out, "\\n");\n'
               '            break;\n        }'), ['prompt', *ALL_GOLDEN]),
    ("9: 'vqa' asks for no short answer", in_prompt('" Short answer:"', '" Answer:"'),
     ['prompt', *ALL_GOLDEN]),
    ('9: base sends the history', in_prompt('if (tmpl == COG_TEMPLATE_BASE) {', HISTORY),
     ['prompt', *ALL_GOLDEN]),
    ('9: BOS behind the picture', [('engine.c', BOS, BOS_BEHIND)], [*ALL_GOLDEN]),
    ('9: no dummy space before the text',
     [('sp_shim.cc', 'if (!sp->processor.Encode({ text, len }, &found).ok() ||', NO_DUMMY)],
     ['tokenizer', *ALL_GOLDEN]),
    # rounding
    ('10: RMSNorm rounds before the weight, too',
     [('kernels_ref_tmpl.h',
       'dst[i] = PUT((float)((double)w[i] * ((double)GET(x[i]) / sqrt(square / n + (double)eps))));',
       'dst[i] = PUT(w[i] * ROUND((float)((double)GET(x[i]) / sqrt(square / n + (double)eps))));'),
      ('rows_tmpl.h', 'vf unit = v_mul(NAME(get)(x + i, m), scale);\n        NAME(put)(dst + i, v_mul',
       'vf unit = ROUND(v_mul(NAME(get)(x + i, m), scale));\n        NAME(put)(dst + i, v_mul')],
     ['cpu_traps', ('rounding-bf16', 'bf16'), ('hd64-bf16', 'bf16')]),
    ('10: logits are not rounded to bf16',
     [('kernels_ref_tmpl.h', 'dst_float[o] = y;', 'dst_float[o] = bias ? acc[o] + bias[o] : acc[o];'),
      ('rows_tmpl.h', '        y = ROUND(y);\n        if (how == COG_OUT_ADD)',
       '        if (how != COG_OUT_FLOAT)\n            y = ROUND(y);\n        if (how == COG_OUT_ADD)')],
     ['cpu_traps', ('rounding-bf16', 'bf16'), ('hd64-bf16', 'bf16')]),
    ('10: SiLU is not rounded before the product',
     [('kernels_ref_tmpl.h', 'float silu = ROUND((float)(g / (1 + exp(-g))));',
       'float silu = (float)(g / (1 + exp(-g)));'),
      ('rows_tmpl.h', 'v_mul(ROUND(silu), NAME(get)(up + i, m))',
       'v_mul(silu, NAME(get)(up + i, m))')],
     ['cpu_traps', ('rounding-bf16', 'bf16'), ('hd64-bf16', 'bf16')]),
    # attention
    ('12: attention looks both ways inside a picture',
     [('decoder.c', 'slots[n] = b->slot[r] + 1;',
       'slots[n] = b->feature[r] >= 0 ? be->model.image_tokens + 1 : b->slot[r] + 1;')],
     ['cpu_traps', *ALL_GOLDEN]),
    # the same in engine/cuda, on the emulator
    ('cuda: the rotary position is the slot',
     [('rope_kv.cu', 'static_cast<size_t>(a.position[row])', 'static_cast<size_t>(a.slot[row])')],
     [('conform', 'rope_kv', 'cuda'), ('hd64-bf16', 'bf16', 'cuda')]),
    ('cuda: a rotation is not rounded before its sum',
     [('rope_kv.cu', 'low[j] = cog_rounded<T>(l * cos[j]) - cog_rounded<T>(h * sin[j]);',
       'low[j] = l * cos[j] - h * sin[j];')],
     [('conform', 'rope_kv', 'cuda'), ('rounding-bf16', 'bf16', 'cuda')]),
    ('cuda: tanh GELU',
     [('gelu.cuh', 'return x * (x < 0 ? tail : 1 - tail);',
       '(void)tail;\n    return 0.5f * x * (1 + tanhf(0.7978845608f * (x + 0.044715f * x * x * x)));')],
     [('conform', 'functions', 'cuda'), ('hd64-bf16', 'bf16', 'cuda')]),
    ('cuda: a segment of a long row is lost',
     [('attention_rows.cu', 'for (int segment = 0; segment < item.total; segment++)',
       'for (int segment = 0; segment == 0 || segment + 1 < item.total; segment++)')],
     [('conform', 'attention_rows', 'cuda')]),
    ('cuda: padding rows write a page of a sequence',
     [('step.c', '(size_t)at->max_blocks] = be->cfg.n_blocks;',
       '(size_t)at->max_blocks] = 0;')],
     ['cuda_backend']),
]
