"""A trained model behind HTTP: `segkit serve`.

app: the addresses, who may ask, what is refused. upload: a request's body, read within limits, and its image. batching:
requests of many clients, computed together by one thread. answers: what is said of an image: PNG, JPEG, JSON. figures:
counts and times for Prometheus. label_studio: the same model as a backend of Label Studio. brush: its run lengths of
bits. page/: the page that shows it all, plain HTML, CSS and JavaScript.
"""
