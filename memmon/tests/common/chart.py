"""Renders memmon's Helm chart by Helm's own library, without a cluster: chart.py FOLDER VALUES (JSON).

Prints the manifests and the complaints of `helm lint` as JSON. Helm's error goes to stderr.
"""

import json
import sys

import yaml
from helm_python import Chart, errors, lint

folder, values = sys.argv[1], json.loads(sys.argv[2])
try:
    rendered = Chart.load(folder).render(values=values, name="memmon", namespace="memmon")
except errors.HelmError as error:
    sys.exit(str(error))
manifests = [document for text in rendered.values() for document in yaml.safe_load_all(text) if document]
json.dump({"manifests": manifests, "lint": lint(folder, values)["messages"]}, sys.stdout)
