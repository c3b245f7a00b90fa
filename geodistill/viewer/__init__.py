"""The viewer's server: what a page is told about a scene, and the pictures it cannot draw itself.

`scene.py` describes a scene and its arrays, `protocol.py` is what page and server say to one
another, `progressive.py` renders fields, `server.py` puts them behind one guarded address, and
`page.py` knows the page itself, whose sources are in `viewer/`.
"""
