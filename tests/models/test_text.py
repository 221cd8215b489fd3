from __future__ import annotations

import re

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from analysis.models import TextWindows
from analysis.models.pieces import pieces
from analysis.models.text import text_windows
from analysis.spec import UserError


def numbers(n: int = 2000, special: bool = False) -> PreTrainedTokenizerFast:
    """A tokenizer for which the word ``17`` is the token 17 + 3; with ``special`` a text becomes ``[CLS] ... [SEP]``."""
    words = {"[UNK]": 0, "[CLS]": 1, "[SEP]": 2} | {str(i): i + 3 for i in range(n)}
    inner = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    names = {"unk_token": "[UNK]"}
    if special:
        inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)])
        names |= {"cls_token": "[CLS]", "sep_token": "[SEP]"}
    return PreTrainedTokenizerFast(tokenizer_object=inner, **names)


def words(first: int, count: int) -> str:
    return " ".join(str(i) for i in range(first, first + count))


@pytest.fixture
def corpus(tmp_path):
    """Five documents of 25 tokens, one of 100, one too short; no token twice. Document i starts at word 200 i."""
    lengths = [25, 25, 100, 25, 25, 7, 25]
    (tmp_path / "corpus").mkdir()
    for i, length in enumerate(lengths):
        (tmp_path / "corpus" / f"{i}.txt").write_text(words(200 * i, length))
    return str(tmp_path / "corpus")


def cut(data, tokenizer=None, *, n_tokens=10_000, window=10, seed=0, **more) -> TextWindows:
    return text_windows(str(data), tokenizer or numbers(), n_tokens=n_tokens, window=window, seed=seed, **more)


def test_every_window_is_consecutive_text_of_its_own_document_at_its_start(corpus):
    w = cut(corpus)
    assert w.token_ids.dtype == np.int64 and w.token_ids.shape == (20, 10)
    for ids, document, start in zip(w.token_ids, w.document, w.start):
        first = 200 * int(w.documents[document].removesuffix(".txt")) + start + 3
        assert ids.tolist() == list(range(first, first + 10))


def test_windows_are_disjoint_and_what_is_left_over_is_counted(corpus):
    w = cut(corpus)
    assert len(np.unique(w.token_ids)) == w.token_ids.size
    assert w.counts["n_too_short"] == 1
    assert w.counts["n_tokens_left_over"] == 5 * 5
    assert w.counts["n_tokens"] == 5 * 20 + 100
    assert w.counts["n_duplicates"] == 0
    assert (w.counts["n_documents"], w.counts["n_documents_total"]) == (6, 7)


def test_few_tokens_touch_as_many_documents_as_there_are_windows(corpus):
    w = cut(corpus, n_tokens=51)
    assert w.n_windows == 6  # 51 tokens need six windows of ten
    assert len(set(w.document.tolist())) == 6


def test_the_second_round_begins_when_every_document_has_given_one_window(corpus):
    assert sorted(np.bincount(cut(corpus, n_tokens=90).document)) == [1, 1, 1, 2, 2, 2]


def test_windows_of_one_document_stand_together_in_order(corpus):
    w = cut(corpus)
    assert w.document.tolist() == sorted(w.document.tolist())
    for document in set(w.document.tolist()):
        starts = w.start[w.document == document].tolist()
        assert starts == sorted(starts)


def test_more_tokens_only_add_windows(corpus):
    few, many = cut(corpus, n_tokens=70), cut(corpus, n_tokens=140)
    assert {tuple(ids) for ids in few.token_ids} < {tuple(ids) for ids in many.token_ids}


def test_same_seed_same_windows_other_seed_other_windows(corpus):
    one, again, other = cut(corpus, n_tokens=70), cut(corpus, n_tokens=70), cut(corpus, n_tokens=70, seed=1)
    assert np.array_equal(one.token_ids, again.token_ids) and one.fingerprint == again.fingerprint
    assert not np.array_equal(one.token_ids, other.token_ids) and one.fingerprint != other.fingerprint


def test_fingerprint_follows_the_tokens_and_not_the_path(corpus, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for i in range(7):
        text = (tmp_path / "corpus" / f"{i}.txt").read_text()
        (elsewhere / f"{i}.txt").write_text(text)
    assert cut(elsewhere).fingerprint == cut(corpus).fingerprint
    changed = (tmp_path / "corpus" / "2.txt").read_text().replace("450", "1999")
    (elsewhere / "2.txt").write_text(changed)
    assert cut(elsewhere).fingerprint != cut(corpus).fingerprint


def test_repeated_windows_come_once_and_are_counted(tmp_path):
    (tmp_path / "a.txt").write_text(f"{words(0, 10)} {words(0, 10)} {words(50, 10)}")
    w = cut(tmp_path / "a.txt")
    assert w.n_windows == 2
    assert w.counts["n_duplicates"] == 1


def test_special_tokens_count_towards_the_window_and_are_masked(corpus):
    w = cut(corpus, numbers(special=True))
    assert w.token_ids.shape[1] == 10
    assert (w.token_ids[:, 0] == 1).all() and (w.token_ids[:, -1] == 2).all()
    assert w.special[:, [0, -1]].all() and not w.special[:, 1:-1].any()
    assert len(np.unique(w.token_ids)) == w.n_windows * 8 + 2  # the content stays disjoint


def test_added_tokens_are_masked_also_where_the_tokenizer_does_not_call_them_special(corpus):
    inner = numbers(special=True).backend_tokenizer
    w = cut(corpus, PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]"))
    assert w.special[:, [0, -1]].all() and not w.special[:, 1:-1].any()


def test_windows_do_not_all_begin_at_multiples_of_their_length(corpus):
    offsets = [set((cut(corpus, seed=seed).start % 10).tolist()) for seed in range(3)]
    assert all(len(found) > 1 for found in offsets)


def test_unknown_words_are_content(tmp_path):
    (tmp_path / "a.txt").write_text("mystery " * 9 + words(0, 1))
    assert not cut(tmp_path / "a.txt").special.any()


def test_lines_of_end_of_text_separate_documents_but_within_a_line_they_do_not(tmp_path):
    (tmp_path / "a.txt").write_text(f"{words(0, 10)}\n<|endoftext|>\n{words(20, 9)} <|endoftext|>\n")
    w = cut(tmp_path / "a.txt")
    assert w.counts["n_documents_total"] == 2
    assert w.documents == ["a.txt #0", "a.txt #1"]
    assert not any({3, 23} <= set(ids) for ids in w.token_ids.tolist())


def test_python_docs_are_one_document_per_topic():
    from pydoc_data.topics import topics

    w = cut("python-docs", n_tokens=200)
    assert w.counts["n_documents_total"] == len(topics)
    assert set(w.documents) <= set(topics) and len(set(w.documents)) == 20


def test_batches_cover_every_window_once_without_padding(corpus):
    w = cut(corpus, task="masked-lm")
    seen = []
    for batch, part in w.batches(7):
        assert batch["input_ids"].shape == (part.stop - part.start, 10)
        assert bool(batch["attention_mask"].all())
        seen += batch["input_ids"].tolist()
    assert seen == w.token_ids.tolist()


def test_a_causal_batch_has_no_mask_and_an_encoder_decoder_reads_on_both_sides(corpus):
    assert set(next(cut(corpus, task="causal-lm").batches(2))[0]) == {"input_ids"}
    assert set(next(cut(corpus, task="seq2seq-lm").batches(2))[0]) == {"input_ids", "attention_mask", "decoder_input_ids"}


def test_given_ids_become_windows_that_are_documents_of_their_own():
    w = TextWindows.from_ids([[1, 2, 3], [4, 5, 6]])
    assert w.document.tolist() == [0, 1] and w.window == 3
    assert w.fingerprint != TextWindows.from_ids([[1, 2, 3], [4, 5, 7]]).fingerprint


@pytest.mark.models
def test_pieces_of_a_byte_level_tokenizer_join_to_the_text(smollm2):
    text = "Naïve  café, \t日本 and\n  four"
    tokenizer = smollm2.tokenizer
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    table = pieces(tokenizer, ids)
    raw = b"".join(table[i].encode() if "\\x" not in table[i] else _unescape(table[i]) for i in ids)
    assert raw.decode() == text


def _unescape(piece: str) -> bytes:
    return re.sub(rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), piece.encode())


def test_pieces_keep_leading_spaces_of_sentence_pieces():
    inner = Tokenizer(models.WordLevel({"[UNK]": 0, "▁the": 1, "re": 2}, unk_token="[UNK]"))
    assert pieces(PreTrainedTokenizerFast(tokenizer_object=inner), [1, 2]) == {1: " the", 2: "re"}


def refusal(*args, **more) -> str:
    with pytest.raises(UserError) as caught:
        cut(*args, **more)
    return str(caught.value)


def test_text_shorter_than_one_window_is_refused_with_both_lengths(tmp_path):
    (tmp_path / "a.txt").write_text(words(0, 37))
    assert refusal(tmp_path / "a.txt", window=128).startswith("the text must be at least 128 tokens, got 37;")


def test_the_length_of_too_short_text_counts_the_special_tokens(tmp_path):
    (tmp_path / "a.txt").write_text(words(0, 37))
    assert "at least 40 tokens, got 39" in refusal(tmp_path / "a.txt", numbers(special=True), window=40)


@pytest.mark.parametrize("text", ["", "  \n\t\n", "<|endoftext|>\n<|endoftext|>\n"])
def test_empty_text_is_refused(tmp_path, text):
    (tmp_path / "a.txt").write_text(text)
    assert "must not be empty" in refusal(tmp_path / "a.txt")


def test_a_folder_of_empty_files_is_refused_as_empty(tmp_path):
    (tmp_path / "a.txt").write_text("")
    assert "must not be empty" in refusal(tmp_path)


def test_a_folder_without_text_files_is_refused(tmp_path):
    assert "must hold .txt files" in refusal(tmp_path)


def test_missing_data_are_refused_with_what_is_known(tmp_path):
    assert "python-docs" in refusal(tmp_path / "nowhere.txt")


def test_text_that_is_not_utf8_is_refused_with_the_place(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"abc \xff\xfe")
    assert "must be UTF-8" in refusal(tmp_path / "a.txt") and "0xff at 4" in refusal(tmp_path / "a.txt")


def test_unreadable_text_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("x")
    monkeypatch.setattr("pathlib.Path.read_text", lambda *a, **k: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert "must be readable, got: Permission denied" in refusal(tmp_path / "a.txt")


def test_a_window_beyond_the_models_positions_is_refused(corpus):
    assert "at most the 8 positions" in refusal(corpus, limit=8)


def test_a_window_of_special_tokens_only_is_refused(corpus):
    assert "longer than the 2 special tokens" in refusal(corpus, numbers(special=True), window=2)
