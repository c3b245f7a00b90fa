precision highp float;
precision highp int;

flat in uint face;
in float depth;
out uvec4 found; // face + 1, depth

void main() {
  found = uvec4(face + 1u, floatBitsToUint(depth), 0u, 0u);
}
