// Discs that bulge towards the viewer, so that neighbours meet along the lines between them.
precision highp float;

uniform mat4 projectionMatrix;

flat in vec4 shown;
flat in float depth;
flat in float reach;
out vec4 color;

void main() {
  vec2 from_center = 2.0 * gl_PointCoord - 1.0;
  float squared = dot(from_center, from_center);
  if (squared > 1.0) discard;
  float z = -(depth - reach * (1.0 - squared));
  float clip = projectionMatrix[2].z * z + projectionMatrix[3].z;
  gl_FragDepth = clamp(0.5 + 0.5 * clip / -z, 0.0, 1.0);
  color = vec4(shown.rgb, 1.0);
}
