"""Small random checkpoints, written as the folders that are published: Hugging Face's and MLX's.

Weights come from the bits of numpy's PCG64 alone, keyed by seed and tensor name, so a checkpoint
is the same on every machine and with every version of numpy: `fingerprint` says so. Names and
shapes as transformers 5.23 saves them; MLX folders as mlx-vlm 0.7 writes them.
Axes: V vocabulary, H hidden size, D head dimension, I inner size, E experts.
"""

import hashlib
import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

KINDS = {"s": "sliding_attention", "f": "full_attention"}
EXPERTS = re.compile(r"\.experts\.(gate_up|down)_proj$")
DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}
NAMES = {dtype: name for name, dtype in DTYPES.items()}

Tensors = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Sizes:
    """What config.json says; names as there. layers: one letter a layer, s(liding) or f(ull).

    std None draws every matrix with deviation 1 / sqrt(inputs), which keeps signals alive; 0.03 is
    the small initialiser on which a whole generation may be compared token for token. sharpness
    multiplies the final norm, and so the logits. query_norm multiplies the queries: attention's
    scale is 1, and from 1 on deep networks of this size amplify rounding a hundredfold. residual
    multiplies what attention and MLP add: if small, the network believes its input and a canvas
    settles. tower: what vision_config has otherwise than `vision_config()`. None in a nullable
    field leaves its key out.
    """

    layers: str = "ssf"
    vocab_size: int = 131
    hidden_size: int = 32
    num_attention_heads: int = 4
    num_key_value_heads: int = 2
    num_global_key_value_heads: int | None = 1
    head_dim: int = 8
    global_head_dim: int = 16
    intermediate_size: int = 24
    num_experts: int = 4
    top_k_experts: int = 2
    moe_intermediate_size: int = 16
    sliding_window: int = 8
    canvas_length: int = 8
    final_logit_softcapping: float | None = 30.0
    sliding_theta: float = 1e4
    full_theta: float = 1e6
    rotary_fraction: float = 0.25
    rms_norm_eps: float = 1e-6
    max_position_embeddings: int = 2048
    eos_token_id: int | tuple[int, ...] | None = None
    spelling: str = "launch"  # or per_layer
    vision: bool = False
    tower: Mapping[str, Any] = field(default_factory=dict)
    std: float | None = None
    sharpness: float = 1.0
    query_norm: float = 0.5
    residual: float = 1.0
    seed: int = 0

    @property
    def full_kv_heads(self) -> int:
        return self.num_global_key_value_heads or self.num_key_value_heads

    def attention(self, number: int) -> tuple[int, int]:
        """Head dimension and key-value heads of layer `number`."""
        if self.layers[number] == "s":
            return self.head_dim, self.num_key_value_heads
        return self.global_head_dim, self.full_kv_heads

    @property
    def image_ids(self) -> tuple[int, int, int]:
        """The ids in front of an image, of its soft tokens and behind it: the last three."""
        return self.vocab_size - 3, self.vocab_size - 2, self.vocab_size - 1

    @property
    def text_ids(self) -> int:
        """Ids below this one are text, and none of an image's."""
        return self.image_ids[0] if self.vision else self.vocab_size


# --- config.json ---------------------------------------------------------------------------------


def config_of(sizes: Sizes, dtype: str = "float32") -> dict[str, Any]:
    """config.json in one of the two spellings."""
    text: dict[str, Any] = {
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 2,
        "dtype": dtype,
        "eos_token_id": None,
        "head_dim": sizes.head_dim,
        "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": sizes.hidden_size,
        "intermediate_size": sizes.intermediate_size,
        "layer_types": [KINDS[kind] for kind in sizes.layers],
        "max_position_embeddings": sizes.max_position_embeddings,
        "model_type": "diffusion_gemma_text",
        "moe_intermediate_size": sizes.moe_intermediate_size,
        "num_attention_heads": sizes.num_attention_heads,
        "num_experts": sizes.num_experts,
        "num_hidden_layers": len(sizes.layers),
        "num_key_value_heads": sizes.num_key_value_heads,
        "pad_token_id": 0,
        "rms_norm_eps": sizes.rms_norm_eps,
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": sizes.sliding_theta},
            "full_attention": {
                "rope_type": "proportional",
                "partial_rotary_factor": sizes.rotary_fraction,
                "rope_theta": sizes.full_theta,
            },
        },
        "sliding_window": sizes.sliding_window,
        "tie_word_embeddings": True,
        "top_k_experts": sizes.top_k_experts,
        "use_bidirectional_attention": "vision",
        "vocab_size": sizes.vocab_size,
    }
    if sizes.final_logit_softcapping is not None:
        text["final_logit_softcapping"] = sizes.final_logit_softcapping
    if sizes.spelling == "per_layer":
        text["per_layer_config"] = _per_layer_config(sizes)
    else:
        text["global_head_dim"] = sizes.global_head_dim
        text["num_global_key_value_heads"] = sizes.num_global_key_value_heads
    begin, soft, end = sizes.image_ids if sizes.vision else (None, None, None)
    return {
        "architectures": ["DiffusionGemmaForBlockDiffusion"],
        "boi_token_id": begin,
        "canvas_length": sizes.canvas_length,
        "dtype": dtype,
        "eoi_token_id": end,
        "image_token_id": soft,
        "model_type": "diffusion_gemma",
        "text_config": text,
        "tie_word_embeddings": True,
        "vision_config": vision_config(sizes.tower) if sizes.vision else None,
    }


def vision_config(changed: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """vision_config of a small tower; its positions reach for images of 32 soft tokens a side."""
    config = {
        "head_dim": 8,
        "hidden_size": 16,
        "intermediate_size": 24,
        "model_type": "gemma4_vision",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
        "position_embedding_size": 96,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "axial", "rope_theta": 100.0},
        "standardize": True,
        "use_clipped_linears": False,
    } | dict(changed)
    return {"num_key_value_heads": config["num_attention_heads"], **config}


def _per_layer_config(sizes: Sizes) -> dict[str, dict[str, int]]:
    """What each full layer overrides; keys zero-padded and values inherited, as saved nowadays."""
    width = len(str(len(sizes.layers) - 1))
    base = {"head_dim": sizes.head_dim, "num_key_value_heads": sizes.num_key_value_heads}
    entries = {}
    for number, kind in enumerate(sizes.layers):
        head_dim, kv_heads = sizes.attention(number)
        own = {"head_dim": head_dim, "num_key_value_heads": kv_heads}
        if kind == "f" or number == 0:  # one sliding layer with nothing of its own
            entries[f"{number:0{width}}"] = {k: v for k, v in own.items() if v != base[k]}
    return entries


# --- weights -------------------------------------------------------------------------------------


def tensor_shapes(sizes: Sizes) -> dict[str, tuple[int, ...]]:
    """Every tensor of the checkpoint by its Hugging Face name."""
    decoder, H, I = "model.decoder", sizes.hidden_size, sizes.intermediate_size  # noqa: E741
    shapes: dict[str, tuple[int, ...]] = {
        f"{decoder}.embed_tokens.weight": (sizes.vocab_size, H),
        f"{decoder}.norm.weight": (H,),
        f"{decoder}.self_conditioning.pre_norm.weight": (H,),
    }
    shapes |= _mlp_shapes(f"{decoder}.self_conditioning", H, I)
    for number in range(len(sizes.layers)):
        shapes |= _layer_shapes(sizes, number)
        shapes[f"model.encoder.language_model.layers.{number}.layer_scalar"] = (1,)
    return shapes | (_vision_shapes(H, vision_config(sizes.tower)) if sizes.vision else {})


def _mlp_shapes(at: str, hidden: int, inner: int, end: str = "") -> dict[str, tuple[int, ...]]:
    return {
        f"{at}.gate_proj{end}.weight": (inner, hidden),
        f"{at}.up_proj{end}.weight": (inner, hidden),
        f"{at}.down_proj{end}.weight": (hidden, inner),
    }


def _layer_shapes(sizes: Sizes, number: int) -> dict[str, tuple[int, ...]]:
    at, H, E = f"model.decoder.layers.{number}", sizes.hidden_size, sizes.num_experts
    D, kv_heads = sizes.attention(number)
    inner = sizes.moe_intermediate_size
    shapes: dict[str, tuple[int, ...]] = {
        f"{at}.self_attn.q_proj.weight": (sizes.num_attention_heads * D, H),
        f"{at}.self_attn.k_proj.weight": (kv_heads * D, H),
        f"{at}.self_attn.v_proj.weight": (kv_heads * D, H),
        f"{at}.self_attn.o_proj.weight": (H, sizes.num_attention_heads * D),
        f"{at}.self_attn.q_norm.weight": (D,),
        f"{at}.self_attn.k_norm.weight": (D,),
        f"{at}.experts.gate_up_proj": (E, 2 * inner, H),
        f"{at}.experts.down_proj": (E, H, inner),
        f"{at}.router.proj.weight": (E, H),
        f"{at}.router.scale": (H,),
        f"{at}.router.per_expert_scale": (E,),
        f"{at}.layer_scalar": (1,),
    }
    if sizes.layers[number] == "f":
        del shapes[f"{at}.self_attn.v_proj.weight"]
    norms = ("input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm")
    more = ("pre_feedforward_layernorm_2", "post_feedforward_layernorm")
    last = ("post_feedforward_layernorm_1", "post_feedforward_layernorm_2")
    shapes |= {f"{at}.{name}.weight": (H,) for name in (*norms, *more, *last)}
    return shapes | _mlp_shapes(f"{at}.mlp", H, sizes.intermediate_size)


def _vision_shapes(hidden: int, vision: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    H, D = vision["hidden_size"], vision["head_dim"]
    wide = vision["num_attention_heads"] * D
    tower = "model.encoder.vision_tower"
    shapes: dict[str, tuple[int, ...]] = {
        "model.encoder.embed_vision.embedding_projection.weight": (hidden, H),
        f"{tower}.patch_embedder.input_proj.weight": (H, 768),
        f"{tower}.patch_embedder.position_embedding_table": (
            2,
            vision["position_embedding_size"],
            H,
        ),
    }
    if vision["standardize"]:
        shapes |= {f"{tower}.std_bias": (H,), f"{tower}.std_scale": (H,)}
    for number in range(vision["num_hidden_layers"]):
        at = f"{tower}.encoder.layers.{number}"
        shapes |= {f"{at}.self_attn.{part}_proj.linear.weight": (wide, H) for part in "qkv"}
        shapes[f"{at}.self_attn.o_proj.linear.weight"] = (H, wide)
        shapes |= {f"{at}.self_attn.{part}_norm.weight": (D,) for part in "qk"}
        shapes |= _mlp_shapes(f"{at}.mlp", H, vision["intermediate_size"], ".linear")
        for norm in ("input", "post_attention", "pre_feedforward", "post_feedforward"):
            shapes[f"{at}.{norm}_layernorm.weight"] = (H,)
    return shapes


def random_tensors(sizes: Sizes) -> Tensors:
    """Random weights by their Hugging Face names, float32."""
    return {name: _random(sizes, name, shape) for name, shape in tensor_shapes(sizes).items()}


def uniform(shape: tuple[int, ...], *key: int) -> NDArray[np.float32]:
    """Numbers in (-1, 1), exact in float32, from the high bits of PCG64's own words."""
    words = np.random.PCG64(np.random.SeedSequence(key)).random_raw(int(np.prod(shape)))
    steps = (words >> np.uint64(41)).astype(np.float32) + np.float32(0.5)
    return (steps * np.float32(2.0**-22) - np.float32(1.0)).reshape(shape)


def random_image(width: int, height: int, key: int) -> NDArray[np.uint8]:
    """Noise [48 height, 48 width, 3]: an image of width x height soft tokens."""
    noise = uniform((48 * height, 48 * width, 3), 77, key)
    return ((noise + 1) * np.float32(128)).astype(np.uint8)


def _random(sizes: Sizes, name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    noise = uniform(shape, sizes.seed, zlib.crc32(name.encode()))
    if name == "model.decoder.norm.weight":
        return np.float32(sizes.sharpness) * (1 + np.float32(0.3) * noise)
    if name.endswith("layer_scalar"):  # 0.55 .. 1.05, and the encoder's is not the decoder's
        return np.float32(0.8) + np.float32(0.25) * noise
    if name.endswith(".self_attn.q_norm.weight"):
        return np.float32(sizes.query_norm) * (1 + np.float32(0.3) * noise)
    if re.search(r"\.decoder\..*\.post_(attention|feedforward)_layernorm\.weight$", name):
        return np.float32(sizes.residual) * (1 + np.float32(0.3) * noise)
    if len(shape) == 1:
        return 1 + np.float32(0.3) * noise
    std = shape[-1] ** -0.5 if sizes.std is None else sizes.std
    return np.float32(std * 3**0.5) * noise


def fingerprint(tensors: Mapping[str, NDArray[np.float32]]) -> str:
    """sha256 over names and values in order of name."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(tensors[name], dtype="<f4").tobytes())
    return digest.hexdigest()


# --- Hugging Face folders ------------------------------------------------------------------------


def write_checkpoint(
    folder: Path,
    sizes: Sizes,
    *,
    tensors: Tensors | None = None,
    dtype: str = "float32",
    per_expert: bool = False,
    strays: bool = False,
    shards: int = 1,
    generation: Mapping[str, Any] | None = None,
) -> Path:
    """Writes a Hugging Face folder and returns it.

    per_expert: one tensor an expert and matrix; strays: the superfluous tensors known to be about;
    shards: more than one brings an index; generation: generation_config.json.
    """
    arrays = dict(random_tensors(sizes) if tensors is None else tensors)
    if strays:
        arrays |= _strays(arrays, sizes.vision)
    if per_expert:
        arrays = _one_by_one(arrays)
    stored = {name: mx.array(array).astype(DTYPES[dtype]) for name, array in arrays.items()}
    config = config_of(sizes, dtype)
    if sizes.eos_token_id is not None:
        eos = sizes.eos_token_id
        config["eos_token_id"] = list(eos) if isinstance(eos, tuple) else eos
    return write_folder(folder, config, stored, shards=shards, generation=generation)


def edit_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """Rewrites config.json after `change` has worked on it."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    change(config)
    file.write_text(json.dumps(config, indent=2))
    return folder


def write_folder(
    folder: Path,
    config: Mapping[str, Any],
    arrays: Mapping[str, mx.array],
    *,
    shards: int = 1,
    generation: Mapping[str, Any] | None = None,
) -> Path:
    """config.json, perhaps generation_config.json, and the tensors in one file or more."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    if generation is not None:
        (folder / "generation_config.json").write_text(json.dumps(generation, indent=2))
    names = sorted(arrays)
    if shards == 1:
        save_tensors(folder / "model.safetensors", arrays)
        return folder
    where = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: arrays[name] for name in names[shard::shards]}
        save_tensors(folder / file, part)
        where |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def vision_aside(folder: Path) -> Path:
    """The vision tensors of a folder moved to the side file in which OptiQ keeps them."""
    arrays = load_tensors(folder)
    mx.eval(arrays)
    for file in folder.glob("*.safetensors"):
        file.unlink()
    (folder / "model.safetensors.index.json").unlink(missing_ok=True)
    side = folder / "optiq" / "optiq_vision.safetensors"
    side.parent.mkdir()
    vision = {name: arrays.pop(name) for name in list(arrays) if "vision" in name}
    save_tensors(side, vision)
    save_tensors(folder / "model.safetensors", arrays)
    return folder


def save_tensors(file: Path, arrays: Mapping[str, mx.array]) -> None:
    mx.save_safetensors(str(file), dict(arrays), metadata={"format": "pt"})


def load_tensors(folder: Path) -> dict[str, mx.array]:
    """Every tensor of a folder."""
    arrays: dict[str, mx.array] = {}
    for file in sorted(folder.glob("*.safetensors")):
        arrays |= mx.load(str(file))  # type: ignore[arg-type]
    return arrays


def _strays(arrays: Tensors, vision: bool) -> Tensors:
    """A tied head, encoder copies, rotary buffers, and unused clipping limits."""
    copies = {
        name.replace("model.decoder.", "model.encoder.language_model."): array
        for name, array in arrays.items()
        if name.startswith("model.decoder.layers.0.") and not name.endswith("layer_scalar")
    }
    embedding = arrays["model.decoder.embed_tokens.weight"]
    strays = {
        "lm_head.weight": embedding,
        "model.encoder.language_model.embed_tokens.weight": embedding,
        "model.encoder.language_model.norm.weight": arrays["model.decoder.norm.weight"],
        "model.decoder.rotary_emb.full_attention_inv_freq": np.ones(4, np.float32),
    }
    if vision:
        at = "model.encoder.vision_tower.encoder.layers.0.self_attn.q_proj"
        strays[f"{at}.input_max"] = np.ones((), np.float32)
    return copies | strays


def _one_by_one(arrays: Tensors) -> Tensors:
    """Fused experts split into one tensor an expert and matrix."""
    split: Tensors = {}
    for name, array in arrays.items():
        if not EXPERTS.search(name):
            split[name] = array
            continue
        at, part = name.rsplit(".", 1)
        half = array.shape[1] // 2
        for expert, weight in enumerate(array):
            if part == "down_proj":
                split[f"{at}.{expert}.down_proj.weight"] = weight
            else:
                split[f"{at}.{expert}.gate_proj.weight"] = weight[:half]
                split[f"{at}.{expert}.up_proj.weight"] = weight[half:]
    return split


# --- MLX folders ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Packing:
    """How a matrix is quantised: MLX's mode, bits and group size."""

    mode: str
    bits: int
    group_size: int

    def entry(self) -> dict[str, Any]:
        """Its form in config.json; a published override leaves out that it is affine."""
        entry: dict[str, Any] = {"group_size": self.group_size, "bits": self.bits}
        return entry if self.mode == "affine" else entry | {"mode": self.mode}

    def pack(self, weight: mx.array) -> dict[str, mx.array]:
        parts = mx.quantize(weight, self.group_size, self.bits, self.mode)
        return dict(zip(("weight", "scales", "biases"), parts, strict=False))

    def unpack(self, parts: Mapping[str, mx.array]) -> mx.array:
        """The numbers of a packed matrix in float32, the scales widened first."""
        scales, biases = parts["scales"], parts.get("biases")
        return mx.dequantize(
            parts["weight"],
            scales if biases is None else scales.astype(mx.float32),
            None if biases is None else biases.astype(mx.float32),
            group_size=self.group_size,
            bits=self.bits,
            mode=self.mode,
            dtype=mx.float32,
        )


Recipe = Callable[[str], Packing | None]  # module -> how to pack it, None for not at all

KEPT = re.compile(r"embed_tokens|\.self_attn\.|\.layers\.\d+\.mlp\.|router\.proj")


def published(default: Packing, kept: Packing | None = None) -> Recipe:
    """The recipe of the published folders: everything at `default`, but what KEPT says 8-bit."""
    eight = kept or Packing("affine", 8, 64)
    return lambda module: eight if KEPT.search(module) else default


def quantise_folder(
    folder: Path, out: Path, default: Packing, recipe: Recipe, *, shards: int = 1
) -> Path:
    """An MLX folder of a Hugging Face one: U32 weights, scales and biases in the folder's dtype.

    Vectors, the vision tower and what `recipe` leaves out or does not divide stay as they are.
    """
    config = json.loads((folder / "config.json").read_text())
    arrays: dict[str, mx.array] = {}
    overrides: dict[str, Any] = {}
    for source, weight in load_tensors(folder).items():
        name = f"{source}.weight" if EXPERTS.search(source) else source
        module = name.removesuffix(".weight")
        packing = _packing_of(module, weight, recipe) if name.endswith(".weight") else None
        if packing is None:
            arrays[name] = weight
            continue
        arrays |= {f"{module}.{kind}": part for kind, part in packing.pack(weight).items()}
        if packing != default:
            overrides[module] = packing.entry()
    quantization = {"mode": default.mode, **default.entry(), **overrides}
    config |= {"quantization": quantization, "quantization_config": quantization}
    generation_file = folder / "generation_config.json"
    generation = json.loads(generation_file.read_text()) if generation_file.exists() else None
    if generation is not None:
        config["generation_config"] = generation
    return write_folder(out, config, arrays, shards=shards, generation=generation)


def _packing_of(module: str, weight: mx.array, recipe: Recipe) -> Packing | None:
    if weight.ndim < 2 or "vision_tower" in module:
        return None
    packing = recipe(module)
    return None if packing is None or weight.shape[-1] % packing.group_size else packing


def dequantised_folder(folder: Path, out: Path) -> Path:
    """The very numbers of an MLX folder as a dense float32 Hugging Face folder."""
    config = json.loads((folder / "config.json").read_text())
    quantization = config.pop("quantization")
    config.pop("quantization_config", None)
    default = {key: value for key, value in quantization.items() if not isinstance(value, dict)}
    packed = load_tensors(folder)
    dense: dict[str, mx.array] = {}
    for name, array in packed.items():
        module, _, kind = name.rpartition(".")
        if kind in ("scales", "biases"):
            continue
        if f"{module}.scales" in packed:
            entry = quantization.get(module, default)
            packing = Packing(entry.get("mode", "affine"), entry["bits"], entry["group_size"])
            parts = {k: packed.get(f"{module}.{k}") for k in ("weight", "scales", "biases")}
            array = packing.unpack({k: part for k, part in parts.items() if part is not None})
        target = module if EXPERTS.search(module) else name
        dense[target] = array.astype(mx.float32)
    config["dtype"] = config["text_config"]["dtype"] = "float32"
    return write_folder(out, config, dense)


def edit_json(file: Path, **values: Any) -> None:
    """Sets keys of a JSON file; None takes a key away."""
    content = json.loads(file.read_text()) | values
    file.write_text(json.dumps({k: v for k, v in content.items() if v is not None}))


UNSURE_IDS = 2100  # enough for 16 bits to gather


def write_unsure_checkpoint(folder: Path, dtype: str, **sizes: Any) -> Path:
    """A model of two layers and UNSURE_IDS; some rows of its early steps need the whole product."""
    made = Sizes(
        "sf",
        vocab_size=UNSURE_IDS,
        hidden_size=64,
        canvas_length=8,
        std=0.03,
        sharpness=2.0,
        residual=0.3,
        **sizes,
    )
    tensors = random_tensors(made)
    tensors["model.decoder.embed_tokens.weight"] *= 5
    return write_checkpoint(folder, made, tensors=tensors, dtype=dtype)
