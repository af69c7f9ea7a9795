"""A trained model as a small HTTP service, and a page on it to try the model by ear and eye."""

from speechbrain_ext.errors import require

require("serve", "fastapi", "python_multipart", "uvicorn")
