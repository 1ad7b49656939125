"""A tokenizer trained on the spot, for languages and domains that no pretrained one fits."""

from __future__ import annotations

from collections.abc import Iterable

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from finetune.recipe import Vocabulary

PAD, UNKNOWN, FIRST, SEPARATOR, MASK = SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def train(vocabulary: Vocabulary, texts: Iterable[str]) -> Tokenizer:
    """A tokenizer of the wanted kind and size with BERT's special tokens; ``[PAD]`` has id 0."""
    tokenizer, trainer = _model(vocabulary)
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), *([normalizers.Lowercase()] if vocabulary.lowercase else [])]
    )
    tokenizer.train_from_iterator(texts, trainer)
    first, separator = tokenizer.token_to_id(FIRST), tokenizer.token_to_id(SEPARATOR)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{FIRST} $A {SEPARATOR}",
        pair=f"{FIRST} $A {SEPARATOR} $B:1 {SEPARATOR}:1",
        special_tokens=[(FIRST, first), (SEPARATOR, separator)],
    )
    return tokenizer


def _model(vocabulary: Vocabulary) -> tuple[Tokenizer, trainers.Trainer]:
    size, special = vocabulary.vocab_size, list(SPECIAL)
    if vocabulary.kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
        # Ideographs stand alone, as in BERT: Chinese and Japanese have no spaces to split at.
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.Split(Regex(r"\p{Han}"), "isolated")]
        )
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer, trainers.WordPieceTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    if vocabulary.kind == "bpe":
        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        return tokenizer, trainers.BpeTrainer(vocab_size=size, special_tokens=special, show_progress=False)
    if vocabulary.kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
        return tokenizer, trainers.UnigramTrainer(
            vocab_size=size, special_tokens=special, unk_token=UNKNOWN, show_progress=False
        )
    tokenizer = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = (
        pre_tokenizers.BertPreTokenizer()
        if vocabulary.kind == "word"
        else pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex("."), "isolated")])
    )
    return tokenizer, trainers.WordLevelTrainer(vocab_size=size, special_tokens=special, show_progress=False)
