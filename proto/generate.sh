#!/bin/sh
# Generate wallaby/v1 from proto/. The generator is pinned to the oldest protobuf and gRPC wallaby supports: generated
# code runs with its own and newer libraries, never with older ones.
set -eu
cd "$(dirname "$0")/.."
tools=build/proto-tools
version=1.76.0
if [ "$(cat "$tools/version" 2>/dev/null || true)" != "$version" ]; then
    "${PYTHON:-python3}" -m venv "$tools"
    "$tools/bin/python" -m pip --disable-pip-version-check --quiet install "grpcio-tools==$version"
    echo "$version" > "$tools/version"
fi
rm -f wallaby/v1/*_pb2.py wallaby/v1/*_pb2.pyi wallaby/v1/*_pb2_grpc.py
"$tools/bin/python" -m grpc_tools.protoc -I proto --python_out=. --pyi_out=. --grpc_python_out=. proto/wallaby/v1/*.proto
# Only files with a service have anything to say about gRPC.
for file in wallaby/v1/*_pb2_grpc.py; do
    grep -q "class .*Stub" "$file" || rm "$file"
done
