import pytest

from tests.weights.references import make_text_encoder, make_unet, make_vae, save
from tfsnap.data.fetch import fetch_merges


@pytest.fixture(scope="session")
def merges():
    return fetch_merges()


@pytest.fixture(scope="session")
def modules():
    """A small Stable Diffusion, by the names of a pipeline's folders."""
    text = make_text_encoder(
        vocab_size=49408, max_position_embeddings=77, bos_token_id=49406, eos_token_id=49407
    )
    return {"unet": make_unet(), "vae": make_vae(), "text_encoder": text}


@pytest.fixture(scope="session")
def pipeline_folder(modules, tmp_path_factory):
    """The same as diffusers writes it."""
    return save(tmp_path_factory.mktemp("pipeline") / "hf", **modules)
