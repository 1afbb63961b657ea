"""A pre-norm transformer block's tensors, as transformers names them."""

from collections.abc import Callable

from tfsnap.weights.names.table import Row, dense, norm

_PROJECTIONS = (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj"), ("out", "out_proj"))


def block_rows(
    ours: str, theirs: str, names: Callable[[str], tuple[str, str]], *, width: int, mlp_width: int
) -> list[Row]:
    """The name table of a `tfsnap.models.clip.TransformerBlock`.

    Args:
      ours: the block's address.
      theirs: its name, behind the tower's prefix.
      names: of such a name, those in diffusers' file and in the original one.
      width: of the residual stream.
      mlp_width: of the MLP.
    """
    rows = []
    for i in (1, 2):
        rows += norm(f"{ours}.norm{i}", *names(f"{theirs}.layer_norm{i}"), width)
    for mine, projection in _PROJECTIONS:
        at = names(f"{theirs}.self_attn.{projection}")
        rows += dense(f"{ours}.attention.{mine}", *at, (width, width))
    rows += dense(f"{ours}.mlp.up", *names(f"{theirs}.mlp.fc1"), (width, mlp_width))
    return rows + dense(f"{ours}.mlp.down", *names(f"{theirs}.mlp.fc2"), (mlp_width, width))
