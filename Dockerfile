# The server of a trained model, as a user without rights, on a file system that is only read:
#   docker build --tag segkit-serve .
#   docker run --read-only --tmpfs /tmp --cap-drop ALL --publish 8000:8000 \
#     --volume "$PWD/model.onnx:/model/model.onnx:ro" --env SEGKIT_TOKEN=... segkit-serve
# It serves exported models: they need no torch at run time, which is left out of the image.
FROM python:3.11-slim AS build
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY segkit segkit
# Without dependencies, then those that serving an exported model imports.
RUN python -m venv /venv \
 && /venv/bin/pip install --no-cache-dir --no-deps . \
 && /venv/bin/pip install --no-cache-dir \
    "numpy>=2.2" "opencv-python-headless>=4.10.0.84" "pillow>=11.3" "pydantic>=2.11" "annotated-types>=0.7" \
    "pyyaml>=6.0.2" "tqdm>=4.67" "filelock>=4.2" "pycocotools>=2.0.8" "onnxruntime>=1.24" \
    "fastapi>=0.115" "uvicorn>=0.34" "python-multipart>=0.0.20" "prometheus-client>=0.21"

FROM python:3.11-slim
RUN useradd --create-home --uid 10001 segkit
COPY --from=build /venv /venv
USER 10001
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 ORT_DISABLE_TELEMETRY=1
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["segkit", "serve", "--host", "0.0.0.0"]
CMD ["/model/model.onnx"]
