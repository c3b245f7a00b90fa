precision highp float;

uniform sampler2D picture; // premultiplied, display-referred
uniform vec2 flip;         // (0, 1) as it is, (1, -1) upside down

in vec2 at;
out vec4 color;

void main() {
  color = clamp(texture(picture, vec2(at.x, flip.x + flip.y * at.y)), 0.0, 1.0);
}
