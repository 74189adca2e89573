"""Settings of synthetic diagnostics: sequences made from a seed, some of whose positions are to be answered.

What each is, what exactly is labelled, and where it comes from: docs/diagnostics.md.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from harness.data.settings.base import DataSettings, Kind

MOST_TOKENS = 2**16
"""Different ones are drawn from a number for each, so a sequence costs time and memory in proportion."""


class SymbolsSettings(DataSettings):
    """What all diagnostics share. How long a sequence is, the model's context says."""

    KIND: ClassVar[Kind] = "symbols"

    @property
    @abstractmethod
    def tokens(self) -> int:
        """How many token ids there are, those with a meaning of their own among them."""

    @property
    @abstractmethod
    def choices(self) -> int:
        """How many tokens an answer may be: guessing evenly among them is right once in so many."""

    @abstractmethod
    def problem_in(self, context: int) -> tuple[str, str] | None:
        """(key, what is wrong) when a sequence of `context` tokens cannot hold what is asked for, else None."""


class MQARSettings(SymbolsSettings):
    """Multi-query associative recall (arXiv 2312.04927): the value of a key that was seen with it before."""

    corpus: Literal["mqar"] = "mqar"
    vocabulary: int = Field(default=16, ge=4, le=MOST_TOKENS)
    """Tokens: 0 is blank, the first half are keys, the second half values."""
    pairs: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(2, 4), min_length=1, strict=False)
    """Pairs of a key and a value before the queries. Of several numbers every sequence has one, drawn evenly."""
    power: float = Field(default=0.01, gt=0.0, le=10.0)
    """A query is g places behind the pairs with a weight of g^(power - 1): near 0 soon, at 1 evenly anywhere."""
    random_fill: bool = True
    """Between the queries are random tokens that are none of the sequence's keys, instead of blanks."""

    @property
    def keys(self) -> int:
        return self.vocabulary // 2 - 1

    @property
    def tokens(self) -> int:
        return self.vocabulary

    @property
    def choices(self) -> int:
        return self.vocabulary - self.vocabulary // 2

    def problem(self) -> tuple[str, str] | None:
        if len(set(self.pairs)) < len(self.pairs):
            return "pairs", "a number is given twice"
        if max(self.pairs) > self.keys:
            need = f"{max(self.pairs)} pairs need as many keys"
            return "pairs", f"{need}, and there are {self.keys} in a vocabulary of {self.vocabulary}"
        return super().problem()

    def problem_in(self, context: int) -> tuple[str, str] | None:
        most = max(self.pairs)
        if 4 * most > context:
            return "pairs", f"{most} pairs and their queries need {4 * most} tokens, and the context is {context}"
        return None


class InductionSettings(SymbolsSettings):
    """Induction (arXiv 2209.11895): what followed the present token the last time, in a stretch that comes again."""

    corpus: Literal["induction"] = "induction"
    vocabulary: int = Field(default=16, ge=3, le=MOST_TOKENS)
    repeated: int = Field(default=12, ge=2)
    """Tokens of the stretch that occurs twice; they differ from each other and from all others of the sequence."""

    @property
    def tokens(self) -> int:
        return self.vocabulary

    @property
    def choices(self) -> int:
        return self.vocabulary

    def problem(self) -> tuple[str, str] | None:
        if self.repeated >= self.vocabulary:
            return "repeated", f"{self.repeated} different tokens leave no other in a vocabulary of {self.vocabulary}"
        return super().problem()

    def problem_in(self, context: int) -> tuple[str, str] | None:
        if 2 * self.repeated > context:
            twice = f"twice {self.repeated} tokens are {2 * self.repeated}"
            return "repeated", f"{twice}, and the context is {context}"
        return None


class CopySettings(SymbolsSettings):
    """Copying (arXiv 2403.17844): symbols among blanks, given back in their order when a token asks for it."""

    corpus: Literal["copy"] = "copy"
    vocabulary: int = Field(default=16, ge=4, le=MOST_TOKENS)
    """Tokens: 0 is blank, 1 asks for the copy, the others are symbols."""
    symbols: int = Field(default=8, ge=1)
    """To be copied; they may be equal."""
    place: Literal["start", "anywhere", "scattered"] = "scattered"
    """Where they are: one after another at the start, or from anywhere on; scattered with blanks between them
    (selective copying)."""

    @property
    def tokens(self) -> int:
        return self.vocabulary

    @property
    def choices(self) -> int:
        return self.vocabulary - 2

    def problem_in(self, context: int) -> tuple[str, str] | None:
        need = 2 * self.symbols + 1
        if need > context:
            twice = f"{self.symbols} symbols, their copy and a token between"
            return "symbols", f"{twice} are {need} tokens, and the context is {context}"
        return None


class BracketsSettings(SymbolsSettings):
    """Balanced brackets, Dyck-(k, m) (arXiv 2010.07515): which kind closes, where one closes."""

    corpus: Literal["brackets"] = "brackets"
    kinds: int = Field(default=8, ge=2, le=MOST_TOKENS // 2)
    """k: tokens below it open a bracket of their kind, as many from it on close one."""
    depth: int = Field(default=8, ge=1)
    """m: so many are open at a time, at most."""

    @property
    def tokens(self) -> int:
        return 2 * self.kinds

    @property
    def choices(self) -> int:
        return self.kinds

    def problem_in(self, context: int) -> tuple[str, str] | None:
        if 2 * self.depth > context:
            need = f"opening and closing {self.depth} brackets takes {2 * self.depth} tokens"
            return "depth", f"{need}, and the context is {context}"
        return None
