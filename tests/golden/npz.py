"""Makes npz/{one,two,deflated}.npz: what numpy.savez and savez_compressed write."""
import os

import numpy as np

out = os.path.join(os.path.dirname(os.path.abspath(__file__)), "npz")
os.makedirs(out, exist_ok=True)
a = np.arange(12, dtype="<f4").reshape(3, 4)
np.savez(f"{out}/one.npz", a)
np.savez(f"{out}/two.npz", image_features=a, text_features=a[:, ::-1] * 2)
np.savez_compressed(f"{out}/deflated.npz", image_features=a.astype("<f2"), ids=np.arange(3))
