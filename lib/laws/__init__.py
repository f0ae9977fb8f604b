"""What a count can be: laws, their likelihood, and the law that counts came from."""

from lib.laws.base import Law
from lib.laws.empirical import Cells, Empirical
from lib.laws.mixture import Mixture
from lib.laws.stacked import Stacked
from lib.laws.zinb import ZINB

__all__ = ["ZINB", "Cells", "Empirical", "Law", "Mixture", "Stacked"]
