// Positions that belong to a site wholly, one point each.
layout(location = 0) in uint position;
layout(location = 1) in vec2 claim; // which handle, how much; -1: nobody
uniform int first_handle;
uniform vec2 size; // of the texture
flat out vec4 value;
flat out int block;

const uint ROW = 2048u;

void main() {
  vec2 at = vec2(position % ROW, position / ROW) + 0.5;
  int handle = int(claim.x) - first_handle;
  block = handle >> 2;
  value = vec4(0.0);
  if (handle >= 0) value[handle & 3] = claim.y;
  gl_Position = vec4(2.0 * at / size - 1.0, 0.0, 1.0);
  gl_PointSize = 1.0;
}
