"""Rules of attention."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from foreign_rules.case import WRONG, call, case, module, modules, normal, submodule


def _heads(batch=2, heads=2, length=64, size=32, dtype=jnp.float32):
    """Queries, keys and values, [batch, heads, length, size]."""
    return tuple(normal(batch, heads, length, size, seed=i, dtype=dtype) for i in range(3))


def _plain(q, k, v, causal=False, scale=1.0):
    """Softmax attention of [batch, heads, length, size]."""
    scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) * scale
    if causal:
        scores = jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)
    return jnp.einsum("bhqk,bhkd->bhqd", jax.nn.softmax(scores, -1), v)


# The guard of 1e-10 in the denominators shows in float64.
_GUARDED = 1e-6


@case("flash-attention-jax", "flash_attention")
def _():
    flash = module("flash_attention_jax")
    return call(flash.flash_attention, *_heads(), jnp.ones((2, 64), bool), rtol=_GUARDED)


@case("flash-attention-jax", "causal_flash_attention")
def _():
    flash = module("flash_attention_jax")
    return call(flash.causal_flash_attention, *_heads(), rtol=_GUARDED)


@case("flash-attention-jax", "flash_attention in bfloat16", truth=WRONG, why="the rule raises")
def _():
    flash = module("flash_attention_jax")
    return call(flash.flash_attention, *_heads(dtype=jnp.bfloat16), jnp.ones((2, 64), bool))


@case("flash-attention-jax", "cosine_sim_flash_attention")
def _():
    flash = module("flash_attention_jax")
    q, k, v = (normal(64, 32, seed=i) for i in range(3))
    return call(flash.cosine_sim_flash_attention, q, k, v, jnp.ones(64, bool), rtol=_GUARDED)


def _interpreted():
    return module("jax.experimental.pallas.tpu").force_tpu_interpret_mode()


@case("jax", "pallas.ops.tpu.flash_attention, causal, interpreted", within=_interpreted)
def _():
    tpu = module("jax.experimental.pallas.ops.tpu.flash_attention")

    def attention(q, k, v):
        return tpu.flash_attention(q, k, v, causal=True)

    heads = _heads(1, 1, 128, 128)
    return call(attention, *heads, reference=functools.partial(_plain, causal=True))


@case("jax", "pallas.ops.tpu.flash_attention.mha_reference")
def _():
    tpu = module("jax.experimental.pallas.ops.tpu.flash_attention")
    q, k, v = _heads()
    return call(lambda q, k, v, bias: tpu.mha_reference(q, k, v, bias), q, k, v, normal(2, 2, 64, 64))


@case("jax", "mha_reference, sm_scale=0.3", truth=WRONG, why="the rule raises")
def _():
    tpu = module("jax.experimental.pallas.ops.tpu.flash_attention")
    return call(lambda q, k, v: tpu.mha_reference(q, k, v, None, sm_scale=0.3), *_heads())


@case("jax", "pallas.ops.gpu.attention.mha, interpreted")
def _():
    gpu = module("jax.experimental.pallas.ops.gpu.attention")
    sizes = gpu.BlockSizes(block_q=32, block_k=32, block_q_dkv=32, block_kv_dkv=32, block_q_dq=32, block_kv_dq=32)

    def attention(q, k, v):
        return gpu.mha(q, k, v, segment_ids=None, sm_scale=0.25, causal=True, block_sizes=sizes, interpret=True)

    def plain(q, k, v):
        return _plain(*(jnp.swapaxes(a, 1, 2) for a in (q, k, v)), causal=True, scale=0.25).swapaxes(1, 2)

    return call(attention, *_heads(2, 64, 2, 32), reference=plain)


def _splash(custom_type, **options):
    splash = module("jax.experimental.pallas.ops.tpu.splash_attention.splash_attention_kernel")
    mask = jnp.tril(jnp.ones((64, 64), bool))

    def attention(q, k, v):
        return splash.attention_reference_custom(mask, q, k, v, None, custom_type=custom_type, **options)

    return attention


for _type in ("flash", "vanilla"):

    @case("jax", f"splash_attention, attention_reference_custom, {_type}, soft cap")
    def _(custom_type=_type):
        q, k, v = (normal(64, 32, seed=i) for i in range(3))
        return call(_splash(custom_type, attn_logits_soft_cap=20.0), q, k, v)


@case("jax", "splash_attention, make_splash_mha, interpreted")
def _():
    name = "jax.experimental.pallas.ops.tpu.splash_attention"
    splash = modules(kernel=f"{name}.splash_attention_kernel", mask=f"{name}.splash_attention_mask")
    mask = splash.mask.MultiHeadMask([splash.mask.CausalMask((128, 128))] * 2)
    sizes = splash.kernel.BlockSizes(128, 128, 128, block_q_dkv=128, block_kv_dkv=128, block_q_dq=128, block_kv_dq=128)
    attention = splash.kernel.make_splash_mha(mask, block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=True)

    def plain(q, k, v):
        return _plain(q[None], k[None], v[None], causal=True)[0]

    return call(attention, *(normal(2, 128, 128, seed=i) / 4 for i in range(3)), reference=plain)


def _folx(masked, edges):
    attention = module("folx.experimental.pallas.attention")
    f = attention.custom_vjp_mhsea if edges else attention.custom_vjp_mhsa
    mask = jnp.arange(16)[None] < (10 if masked else 16)
    mask = jnp.repeat(mask, 4, 0)
    q, k, e, v = (normal(4, 16, 4, 16, seed=i) for i in range(4))
    args = (q, k, e, v, mask) if edges else (q, k, v, mask)
    return call(lambda *a: f(*a, None, "reference", False, None, 2, 2), *args)


@case("folx", "mhsa, nothing masked")
def _():
    return _folx(False, False)


@case("folx", "mhsa, padded", truth=WRONG, why="padded queries get a gradient through scores that were replaced")
def _():
    return _folx(True, False)


@case("folx", "mhsea, padded")
def _():
    return _folx(True, True)


@case("ringattention", "ring_attention over 4 devices, causal")
def _():
    ring = submodule("ringattention.ringattention_jax")
    mesh = Mesh(np.array(jax.devices()[:4]), ("sp",))
    blockwise = {
        "causal_block_size": 1, "deterministic": True, "dropout_rng": None, "attn_pdrop": 0.0, "query_chunk_size": 8,
        "key_chunk_size": 8, "dtype": jnp.float32, "policy": jax.checkpoint_policies.nothing_saveable,
        "precision": None, "prevent_cse": False,
    }  # fmt: skip

    def local(q, k, v):
        return ring.ring_attention(q, k, v, None, None, None, "sp", True, blockwise)

    spec = PartitionSpec(None, "sp")
    attention = jax.jit(jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))

    def plain(q, k, v):
        return _plain(*(jnp.swapaxes(a, 1, 2) for a in (q, k, v)), causal=True, scale=16**-0.5).swapaxes(1, 2)

    return call(attention, *_heads(2, 64, 2, 16), reference=plain)


def _tokamax_attention(implementation):
    tokamax = module("tokamax")

    def attention(q, k, v):
        return tokamax.dot_product_attention(q, k, v, is_causal=True, implementation=implementation)

    def plain(q, k, v):
        return _plain(*(jnp.swapaxes(a, 1, 2) for a in (q, k, v)), causal=True, scale=32**-0.5).swapaxes(1, 2)

    return call(attention, *_heads(2, 64, 2, 32), reference=plain)


for _implementation in ("xla", "xla_chunked"):

    @case("tokamax", f"dot_product_attention, {_implementation}, causal")
    def _(implementation=_implementation):
        return _tokamax_attention(implementation)


@case("tokamax", "attention.base.softmax", kind="custom_jvp")
def _():
    base = module("tokamax._src.ops.attention.base")
    return call(lambda x: base._softmax(x, True)[0], normal(40, 100))


@case("recurrentgemma", "pallas.lru_pallas_scan, interpreted", within=_interpreted)
def _():
    pallas = module("recurrentgemma.jax.pallas")

    def scanned(x, a):
        return pallas.lru_pallas_scan(x, a)[0]

    def plain(x, a):
        def step(h, xa):
            h = xa[1] * h + xa[0]
            return h, h

        x, a = jnp.swapaxes(x, 0, 1), jnp.swapaxes(a, 0, 1)
        return jnp.swapaxes(jax.lax.scan(step, jnp.zeros_like(x[0]), (x, a))[1], 0, 1)

    return call(scanned, normal(2, 16, 128), jax.nn.sigmoid(normal(2, 16, 128, seed=1)), reference=plain)
