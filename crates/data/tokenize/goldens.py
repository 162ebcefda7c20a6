"""Writes goldens.json: texts, and the pieces that other programs cut them into with the patterns of src/tokenize/pattern.rs.

    pip install tokenizers==0.23.3 regex==2026.11.19 tiktoken==0.14.0
    python3 goldens.py > goldens.json

gpt2, llama3 and qwen2 by Hugging Face `tokenizers`, as their tokenizer.json would; cl100k_base and o200k_base by `regex` with
the expressions that tiktoken has.
"""
import json
import random
import sys
from unittest import mock

import regex
import tokenizers
from tiktoken_ext import openai_public
from tokenizers import pre_tokenizers

KINDS = ["a", "Z", "word", "É", "ß", "ſ", "ǅ", "ʰ", "文", "\u0301", "7", "42", "٣", "Ⅷ", "½", " ", "  ", "\n", "\r\n", "\t", "\u00a0", "\u3000",
         "'", "'s", "'S", "'re", "'LL", "'ſ", "’", "!", "/", "-", "…", "😀", "_", "\0", ".\n", "//", "ABC", "iPhone"]
BY_HAND = ["", " ", "\n", "  a", "a  ", "a \n b", "\n\n  x", "x\n  ", "don't DON'T", "''s", " 's", "a's's", "1234567", "x1y2", "\r\n\r\n", "é'll",
           "日本語 text", "\u3000\u3000a", "a\u3000 b", "http://x/y/", "!!\n\n\nx", " \u0301a", "\u0301A", "CamelCaseWORDs", "a\u0300B", "  \r\n \tz"]


def texts() -> list[str]:
    random.seed(1)
    return BY_HAND + ["".join(random.choices(KINDS, k=random.randint(2, 12))) for _ in range(120)]


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
          r"|\s+(?!\S)|\s+")


def tiktokens(name: str) -> str:
    """The expression of an encoding, without its ranks, which would have to be fetched."""
    with mock.patch.object(openai_public, "load_tiktoken_bpe", return_value={}):
        return getattr(openai_public, name)()["pat_str"]


def by_tokenizers(expression: str):
    split = pre_tokenizers.Split(tokenizers.Regex(expression), "isolated")
    return lambda text: [piece for piece, _ in split.pre_tokenize_str(text)]


def by_regex(expression: str):
    return regex.compile(expression).findall


def main() -> None:
    gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    cutters = {
        "gpt2": by_tokenizers(gpt2),
        "llama3": by_tokenizers(LLAMA3),
        "qwen2": by_tokenizers(LLAMA3.replace("{1,3}", "")),
        "cl100k_base": by_regex(tiktokens("cl100k_base")),
        "o200k_base": by_regex(tiktokens("o200k_base")),
    }
    goldens = [{"pattern": name, "text": text, "pieces": cut(text)} for name, cut in cutters.items() for text in texts()]
    for golden in goldens:
        assert "".join(golden["pieces"]) == golden["text"], golden
    json.dump(goldens, sys.stdout, ensure_ascii=True, separators=(",", ":"))


if __name__ == "__main__":
    main()
