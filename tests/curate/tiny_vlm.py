"""LLaVA 1.5, 1.6 and OneVision with 32 channels and a tokenizer trained here, in the layout that real ones come in."""

WORDS = "Describe this image and its style in a very detailed manner. A red barn in a green field. USER ASSISTANT"
TEMPLATE = (
    "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image> {% else %}"
    "{{ c['text'] }}{% endif %}{% endfor %}{% endfor %} ASSISTANT:"
)
SHAPE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
SIDE, PATCH = 28, 14
GRID = [[28, 56], [56, 28], [56, 56]]  # how 1.6 and OneVision cut a large picture


def save(kind, folder):
    """Write a model of `kind` (llava, llava_next, llava_onevision) with random weights and its processor."""
    import torch
    import transformers as t

    tokenizer = _tokenizer()
    image, video = (tokenizer.convert_tokens_to_ids(name) for name in ("<image>", "<video>"))
    size = {"height": SIDE, "width": SIDE}
    words = {"vocab_size": len(tokenizer), "max_position_embeddings": 512}
    clip = t.CLIPVisionConfig(**SHAPE, image_size=SIDE, patch_size=PATCH)
    llama = t.LlamaConfig(**SHAPE, **words, pad_token_id=tokenizer.pad_token_id)
    plain = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "chat_template": TEMPLATE}
    torch.manual_seed(0)
    if kind == "llava":
        pictures = t.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=size)
        processor = t.LlavaProcessor(pictures, tokenizer, **plain, num_additional_image_tokens=1)
        net = t.LlavaForConditionalGeneration(
            t.LlavaConfig(vision_config=clip, text_config=llama, image_token_index=image)
        )
    elif kind == "llava_next":
        pictures = t.LlavaNextImageProcessor(size={"shortest_edge": SIDE}, crop_size=size, image_grid_pinpoints=GRID)
        processor = t.LlavaNextProcessor(pictures, tokenizer, **plain, num_additional_image_tokens=1)
        net = t.LlavaNextForConditionalGeneration(
            t.LlavaNextConfig(vision_config=clip, text_config=llama, image_token_index=image, image_grid_pinpoints=GRID)
        )
    else:
        processor = t.LlavaOnevisionProcessor(
            t.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=GRID), tokenizer,
            t.LlavaOnevisionVideoProcessor(size=size), num_image_tokens=(SIDE // PATCH) ** 2,
            vision_feature_select_strategy="full", chat_template=TEMPLATE,
        )  # fmt: skip
        net = t.LlavaOnevisionForConditionalGeneration(
            t.LlavaOnevisionConfig(
                vision_config=t.SiglipVisionConfig(**SHAPE, image_size=SIDE, patch_size=PATCH, vision_use_head=False),
                text_config=t.Qwen2Config(**SHAPE, **words, num_key_value_heads=2), image_token_index=image,
                video_token_index=video, image_grid_pinpoints=GRID, vision_feature_select_strategy="full",
            )
        )  # fmt: skip
    processor.save_pretrained(folder)
    net.save_pretrained(folder)
    return folder


def _tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE(unk_token="<unk>"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<unk>", "<s>", "</s>", "<pad>", "<image>", "<video>"]
    raw.train_from_iterator([WORDS] * 3, trainers.BpeTrainer(vocab_size=300, special_tokens=special))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
