from __future__ import annotations

from pathlib import Path

import pytest

from search.engine.cluster import Cluster
from tests.search.toy import Play, play_in


@pytest.fixture
def play(cluster: Cluster, tmp_path: Path) -> Play:
    return play_in(tmp_path, cluster)
