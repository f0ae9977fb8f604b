import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


PAGES_OF_A_STEP = """
import resource, torch
from lib import model, training
torch.set_num_threads(1)
counts = torch.poisson(torch.full((600, 2000), 2.0), generator=torch.Generator().manual_seed(0))
vae = model.ZINBVAE(2000, n_layers=1)
pages = []
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    training.fit(vae, counts, max_epochs=4, batch_size=300, validation_fraction=0)
    pages.append((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // 8)
print(training.keep_freed_memory(), pages[1])
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="this C library has no mallopt")
@pytest.mark.parametrize("kept", [True, False])
def test_memory_of_a_step_is_kept_for_the_next_unless_settings_of_the_user_say_otherwise(kept):
    own = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    own |= {"MALLOC_ARENA_MAX": "4"} if kept else {"MALLOC_TRIM_THRESHOLD_": "131072"}
    done = subprocess.run([sys.executable, "-c", PAGES_OF_A_STEP], cwd=ROOT, env=own, capture_output=True, text=True, check=True)
    said, pages = done.stdout.split()
    assert said == str(kept)
    assert (int(pages) < 5000) == kept  # of 4 KB: about 100, against 20,000 or more
