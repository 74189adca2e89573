"""Scales: a name for a model shape and a training budget that go together. A suite file may override any of it.

Up to `mid` the budget is about 20 tokens per parameter (arXiv 2203.15556) and everything is our choice. The others are
the published shapes and recipes, at the number of tokens of the studies of HC (arXiv 2409.19606: 500B) and FC (arXiv
2503.14125: 2T for the OLMo-2 model); steps are those tokens over tokens per batch. `micro_batch_size` is always our
choice: what one accelerator of 80 GB holds with four streams, by `cost.memory`. `olmo-7b` and `olmoe-1b-7b` it does not
hold at all: their weights, gradients and moments are 110 GB.
"""

from __future__ import annotations

from typing import Any

SCALES: dict[str, dict[str, dict[str, Any]]] = {
    # Deep and thin: what these connections mend grows with depth. A 4-layer net of this width shows nothing.
    "toy": {
        "model": {"layers": 12, "width": 64, "heads": 4, "context": 64},
        "train": {"steps": 400, "batch_size": 8, "lr": 2e-3, "warmup_steps": 20},
    },
    # 974,880 parameters with the 257 tokens of bytes; 19.7M tokens.
    "tiny": {
        "model": {"layers": 12, "width": 80, "heads": 5, "context": 128},
        "train": {"steps": 2400, "batch_size": 64, "lr": 2e-3, "warmup_steps": 100},
    },
    # 9,558,528 parameters; 192M tokens.
    "small": {
        "model": {"layers": 12, "width": 256, "heads": 8, "context": 256},
        "train": {"steps": 11_700, "batch_size": 64, "lr": 1e-3, "warmup_steps": 300},
    },
    # 38,089,728 parameters; 763M tokens.
    "mid38": {
        "model": {"layers": 12, "width": 512, "heads": 8, "context": 1024},
        "train": {
            "steps": 11_640,
            "batch_size": 64,
            "lr": 1e-3,
            "warmup_steps": 500,
            "weight_decay": 0.1,
            "precision": "bf16",
        },
    },
    # 127,627,776 parameters; 2.55B tokens.
    "mid": {
        "model": {"layers": 18, "width": 768, "heads": 12, "context": 1024},
        "train": {
            "steps": 9_740,
            "batch_size": 256,
            "micro_batch_size": 32,
            "lr": 6e-4,
            "warmup_steps": 500,
            "weight_decay": 0.1,
            "precision": "bf16",
        },
    },
    # OLMo-1B (arXiv 2402.00838; configs/official/OLMo-1B.yaml of allenai/OLMo): 1,176,764,416 parameters. Published:
    # shape, batch, learning rate, warm-up, decay to a tenth, weight decay, clipping.
    "olmo-1b": {
        "model": {
            "layers": 16,
            "width": 2048,
            "heads": 16,
            "ffn_width": 8192,
            "context": 2048,
            "vocabulary": 50_304,
            "norm_type": "layer_norm_no_affine",
        },
        "train": {
            "steps": 119_209,
            "batch_size": 2048,
            "micro_batch_size": 4,
            "lr": 4e-4,
            "warmup_steps": 2000,
            "weight_decay": 0.1,
            "precision": "bf16",
        },
    },
    # OLMo-7B (the same; configs/official/OLMo-7B.yaml): 6,888,095,744 parameters. Published: the same; its decay was
    # linear, and here is the cosine of all models.
    "olmo-7b": {
        "model": {
            "layers": 32,
            "width": 4096,
            "heads": 32,
            "ffn_width": 11_008,
            "context": 2048,
            "vocabulary": 50_304,
            "tied": False,
            "norm_type": "layer_norm_no_affine",
        },
        "train": {
            "steps": 119_209,
            "batch_size": 2048,
            "micro_batch_size": 1,
            "lr": 3e-4,
            "warmup_steps": 5000,
            "weight_decay": 0.1,
            "precision": "bf16",
        },
    },
    # OLMo-2-1B (arXiv 2501.00656; configs/official-0425/OLMo2-1B-stage1.yaml): 1,484,916,736 parameters. Published:
    # shape, batch, learning rate, warm-up (8.4B tokens). Left out: its decay of norms, and none of embeddings.
    "olmo2-1b2": {
        "model": {
            "layers": 16,
            "width": 2048,
            "heads": 16,
            "ffn_width": 8192,
            "context": 4096,
            "vocabulary": 100_352,
            "tied": False,
            "norm_position": "after",
            "qk_norm": True,
            "norm_eps": 1e-6,
            "rope_theta": 500_000.0,
        },
        "train": {
            "steps": 953_674,
            "batch_size": 512,
            "micro_batch_size": 1,
            "lr": 4e-4,
            "warmup_steps": 4000,
            "weight_decay": 0.1,
            "precision": "bf16",
        },
    },
    # OLMoE-1B-7B (arXiv 2409.02060, Table 10): 6,919,161,856 parameters, 1,282,017,280 active. Published: shape, losses
    # of the router, batch, learning rate, warm-up. HC's Table 7 counts 67,584 less: one of the two kinds of norms.
    "olmoe-1b-7b": {
        "model": {
            "layers": 16,
            "width": 2048,
            "heads": 16,
            "ffn_width": 1024,
            "context": 4096,
            "vocabulary": 50_304,
            "tied": False,
            "qk_norm": True,
            "experts": 64,
            "experts_per_token": 8,
            "balance_loss": 0.01,
            "router_z_loss": 0.001,
        },
        "train": {
            "steps": 119_209,
            "batch_size": 1024,
            "micro_batch_size": 1,
            "lr": 4e-4,
            "warmup_steps": 2000,
            "weight_decay": 0.1,
            "precision": "bf16",
        },
    },
    # For images of 8 pixels (`digits`): 302,154 and 478,340 parameters with one channel and ten classes. A width of 64
    # learns slowly from the usual 0.02, and a denoiser of this size draws digits from rates near 1e-2 on.
    "vit-toy": {
        "model": {"type": "vit", "layers": 6, "width": 64, "heads": 4, "patch": 2, "init_std": 0.1},
        "train": {"steps": 300, "batch_size": 32, "lr": 2e-3, "warmup_steps": 15, "weight_decay": 0.05},
    },
    "dit-toy": {
        "model": {"type": "dit", "layers": 6, "width": 64, "heads": 4, "patch": 2, "init_std": 0.1},
        "train": {"steps": 500, "batch_size": 32, "lr": 1e-2, "warmup_steps": 30, "weight_decay": 0.0},
    },
    # ViT-B/16 (arXiv 2010.11929): 86,567,656 parameters for 1000 classes of 224 pixels. Batch, learning rate, weight
    # decay, dropout and 300 epochs of ImageNet-1k are HC's (arXiv 2409.19606, App.); warm-up is the ViT paper's.
    "vit-b16": {
        "model": {"type": "vit", "layers": 12, "width": 768, "heads": 12, "patch": 16, "dropout": 0.1},
        "train": {
            "steps": 93_830,
            "batch_size": 4096,
            "micro_batch_size": 128,
            "lr": 3e-3,
            "warmup_steps": 10_000,
            "weight_decay": 0.3,
            "precision": "bf16",
        },
    },
    # DiT-XL/2 (arXiv 2212.09748): 674,816,272 parameters for latents of 32 x 32 x 4 and 1000 classes, without the
    # learned variance (18,448 more) and with positions that are no parameters. Published: batch, constant rate, no
    # decay; 1400 epochs of ImageNet-1k. beta2 is AdamW's default there.
    "dit-xl2": {
        "model": {"type": "dit", "layers": 28, "width": 1152, "heads": 16, "patch": 2},
        "train": {
            "steps": 7_000_000,
            "batch_size": 256,
            "micro_batch_size": 16,
            "lr": 1e-4,
            "min_lr_ratio": 1.0,
            "weight_decay": 0.0,
            "beta2": 0.999,
            "precision": "bf16",
        },
    },
}
