"""python -m face_mtl_ros.cli"""

import sys

from . import main

sys.exit(main())
